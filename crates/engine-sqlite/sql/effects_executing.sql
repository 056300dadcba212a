SELECT scope, key, record, crc FROM onefold_effects WHERE due IS NOT NULL AND state = 1
