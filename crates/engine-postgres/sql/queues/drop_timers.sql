DELETE FROM onefold.timers WHERE ns = 0 AND seq = ANY ($1::bigint[])
