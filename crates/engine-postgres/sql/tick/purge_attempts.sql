DELETE FROM onefold.attempts WHERE ns = 0 AND seq = ANY ($1::bigint[])
