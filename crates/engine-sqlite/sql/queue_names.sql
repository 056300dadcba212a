SELECT id, name FROM onefold_queues
