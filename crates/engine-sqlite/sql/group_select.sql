SELECT ord, seq FROM onefold_groups WHERE queue = ?1 AND grp = ?2 AND ord > ?3 ORDER BY ord LIMIT 1
