SELECT kind, number, at_ms, note FROM onefold.evidence WHERE ns = 0 AND seq = $1::bigint
