SELECT created_at, next_token, next_seq FROM onefold_meta WHERE id = 1
