SELECT lid, hash FROM onefold_ledger WHERE lid BETWEEN ?1 AND ?2 ORDER BY lid
