SELECT coalesce(max(number), 0) FROM onefold_evidence WHERE seq = ?1 AND kind = ?2
