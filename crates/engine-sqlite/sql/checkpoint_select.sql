SELECT value, crc FROM onefold_checkpoints WHERE seq = ?1
