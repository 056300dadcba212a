DELETE FROM onefold_queues WHERE deleted_at <= ?1
