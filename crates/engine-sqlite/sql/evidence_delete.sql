DELETE FROM onefold_evidence WHERE seq BETWEEN ?1 AND ?2
