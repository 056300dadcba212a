SELECT kind, number, at, note FROM onefold_evidence WHERE seq = ?1 ORDER BY at, kind, number
