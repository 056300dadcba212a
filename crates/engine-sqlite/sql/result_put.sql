INSERT OR REPLACE INTO onefold_results (seq, result, crc) VALUES (?1, ?2, ?3)
