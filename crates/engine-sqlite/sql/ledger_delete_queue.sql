DELETE FROM onefold_ledger WHERE queue = ?1 RETURNING lid, hash
