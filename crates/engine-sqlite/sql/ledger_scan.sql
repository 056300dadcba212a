SELECT lid, hash FROM onefold_ledger ORDER BY lid
