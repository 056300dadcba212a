SELECT queue, name, alive, settings::text FROM onefold.queues WHERE ns = 0 AND queue = ANY ($1::integer[])
