DELETE FROM onefold_attempts WHERE seq BETWEEN ?1 AND ?2
