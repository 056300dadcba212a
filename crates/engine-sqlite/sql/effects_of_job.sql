SELECT scope, key, record, crc FROM onefold_effects WHERE job = ?1 ORDER BY key, scope LIMIT ?2
