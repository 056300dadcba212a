SELECT space, queue, key FROM onefold_ledger WHERE lid = ?1
