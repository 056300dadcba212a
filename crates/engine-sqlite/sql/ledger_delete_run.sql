DELETE FROM onefold_ledger WHERE lid BETWEEN ?1 AND ?2
