UPDATE onefold_queues SET settings = ?2, counts = ?3, starts = ?4 WHERE id = ?1
