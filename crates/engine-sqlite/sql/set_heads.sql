SELECT min(bucket), members FROM onefold_sets WHERE kind = 0 AND queue = ?1 GROUP BY lane, priority
