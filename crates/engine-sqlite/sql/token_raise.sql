UPDATE onefold_meta SET next_token = max(next_token, ?1) WHERE id = 1
