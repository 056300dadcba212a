SELECT id, name, settings, counts, starts FROM onefold_queues WHERE deleted_at IS NULL
