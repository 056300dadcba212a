-- The last queue made stays, so that no number is given to another queue.
DELETE FROM onefold_queues WHERE deleted_at <= ?1 AND id < (SELECT max(id) FROM onefold_queues)
