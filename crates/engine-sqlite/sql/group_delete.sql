DELETE FROM onefold_groups WHERE queue = ?1 AND grp = ?2 AND ord = ?3
