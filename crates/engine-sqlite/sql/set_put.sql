INSERT OR REPLACE INTO onefold_sets (kind, queue, lane, priority, bucket, members) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
