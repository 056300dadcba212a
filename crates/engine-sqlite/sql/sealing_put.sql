INSERT OR REPLACE INTO onefold_sealing (id, progress) VALUES (1, ?1)
