SELECT token, attempt, crc FROM onefold_attempts WHERE seq = ?1 ORDER BY number
