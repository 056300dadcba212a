SELECT name FROM onefold_queues WHERE id = ?1
