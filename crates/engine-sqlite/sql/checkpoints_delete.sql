DELETE FROM onefold_checkpoints WHERE seq BETWEEN ?1 AND ?2
