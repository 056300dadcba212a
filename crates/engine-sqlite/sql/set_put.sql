INSERT OR REPLACE INTO onefold_sets (kind, queue, priority, bucket, members) VALUES (?1, ?2, ?3, ?4, ?5)
