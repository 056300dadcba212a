INSERT OR REPLACE INTO onefold_retention (bucket, at) VALUES (?1, ?2)
