SELECT DISTINCT grp FROM onefold_groups WHERE queue = ?1
