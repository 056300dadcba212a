SELECT queue, name, alive, settings::text FROM onefold.queues WHERE ns = 0 ORDER BY name
