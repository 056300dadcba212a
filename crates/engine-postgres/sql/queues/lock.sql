SELECT queue FROM onefold.queues WHERE ns = 0 AND queue = ANY ($1::integer[]) ORDER BY queue FOR NO KEY UPDATE
