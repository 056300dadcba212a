INSERT OR REPLACE INTO onefold_attempts (seq, number, token, attempt, crc) VALUES (?1, ?2, ?3, ?4, ?5)
