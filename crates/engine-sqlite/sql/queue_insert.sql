INSERT INTO onefold_queues (id, ns, name, settings, counts, starts) VALUES (?1, 0, ?2, ?3, ?4, ?5)
