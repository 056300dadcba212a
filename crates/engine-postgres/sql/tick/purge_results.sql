DELETE FROM onefold.results WHERE ns = 0 AND seq = ANY ($1::bigint[])
