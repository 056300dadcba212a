INSERT OR REPLACE INTO onefold_timers (bucket, seq, at) VALUES (?1, ?2, ?3)
