DELETE FROM onefold_sets WHERE kind = ?1 AND queue = ?2 AND lane = ?3 AND priority = ?4 AND bucket = ?5
