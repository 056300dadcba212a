DELETE FROM onefold.evidence WHERE ns = 0 AND seq = ANY ($1::bigint[])
