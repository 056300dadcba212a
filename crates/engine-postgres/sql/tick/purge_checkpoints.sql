DELETE FROM onefold.checkpoints WHERE ns = 0 AND seq = ANY ($1::bigint[])
