DELETE FROM onefold_ledger WHERE lid = ?1
