SELECT octet_length(value) FROM onefold_checkpoints WHERE seq = ?1
