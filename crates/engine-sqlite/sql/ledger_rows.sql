SELECT lid, space, queue, key, seq, created_at, fingerprint, until, free_on, hash, crc FROM onefold_ledger ORDER BY lid
