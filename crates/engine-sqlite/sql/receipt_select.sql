SELECT content, state, until FROM onefold_receipts WHERE token = ?1 AND seq = ?2 AND created_at = ?3
