DELETE FROM onefold.specs WHERE ns = 0 AND seq = ANY ($1::bigint[])
