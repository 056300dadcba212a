DELETE FROM onefold_groups WHERE queue = ?1
