SELECT queue, name, alive, settings::text FROM onefold.queues WHERE ns = 0 AND name = ANY ($1::text[])
