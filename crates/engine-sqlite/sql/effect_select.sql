SELECT scope, key, record, crc, result, result_crc FROM onefold_effects WHERE ns = 0 AND scope = ?1 AND key = ?2
