SELECT scope, key, record, crc FROM onefold_effects WHERE ns = 0 AND (scope, key) > (?1, ?2)
ORDER BY scope, key LIMIT ?3
