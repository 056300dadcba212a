SELECT hash_key, next_seq, next_token, next_event FROM onefold_meta WHERE id = 1
