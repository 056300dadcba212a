DELETE FROM onefold_effects WHERE job BETWEEN ?1 AND ?2
