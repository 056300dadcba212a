SELECT result, crc FROM onefold_results WHERE seq = ?1
