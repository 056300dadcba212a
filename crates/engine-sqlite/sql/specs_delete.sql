DELETE FROM onefold_specs WHERE seq BETWEEN ?1 AND ?2
