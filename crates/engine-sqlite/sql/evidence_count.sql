SELECT count(*) FROM onefold_evidence WHERE seq = ?1 AND kind = ?2
