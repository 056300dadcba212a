INSERT INTO onefold_meta (id, store_id, hash_key, created_at, next_seq, next_token, next_event)
VALUES (1, ?1, ?2, ?3, 1, 1, 1)
