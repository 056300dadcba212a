UPDATE onefold_queues SET settings = ?2, counts = ?3 WHERE id = ?1
