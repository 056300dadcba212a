SELECT id, name, settings, counts FROM onefold_queues WHERE deleted_at IS NULL
