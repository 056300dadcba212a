SELECT scope, key, record, crc FROM onefold_effects WHERE due <= ?1 ORDER BY due LIMIT ?2
