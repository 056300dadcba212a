INSERT INTO onefold_ledger (lid, space, queue, key, seq, created_at, fingerprint, until, free_on, hash, crc)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
