DELETE FROM onefold.jobs WHERE ns = 0 AND seq = ANY ($1::bigint[])
