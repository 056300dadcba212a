INSERT OR REPLACE INTO onefold_receipts (token, seq, created_at, content, state, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
