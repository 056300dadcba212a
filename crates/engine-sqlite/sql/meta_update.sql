UPDATE onefold_meta SET next_seq = ?1, next_token = ?2, next_event = ?3 WHERE id = 1
