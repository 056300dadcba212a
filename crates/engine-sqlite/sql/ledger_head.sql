SELECT lid, space, queue, key, seq, created_at, fingerprint, until, free_on, hash, crc
FROM onefold_ledger WHERE lid BETWEEN ?1 AND ?2 ORDER BY lid LIMIT ?3
