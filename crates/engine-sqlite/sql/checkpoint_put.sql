INSERT OR REPLACE INTO onefold_checkpoints (seq, value, crc) VALUES (?1, ?2, ?3)
