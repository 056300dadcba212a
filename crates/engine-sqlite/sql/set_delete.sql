DELETE FROM onefold_sets WHERE kind = ?1 AND queue = ?2 AND priority = ?3 AND bucket = ?4
