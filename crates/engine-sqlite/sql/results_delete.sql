DELETE FROM onefold_results WHERE seq BETWEEN ?1 AND ?2
