INSERT INTO onefold.queues (name) VALUES ($1::text)
ON CONFLICT (ns, name) DO UPDATE SET alive = true WHERE NOT queues.alive
