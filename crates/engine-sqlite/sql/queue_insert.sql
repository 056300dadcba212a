INSERT INTO onefold_queues (id, ns, name, settings, counts) VALUES (?1, 0, ?2, ?3, ?4)
