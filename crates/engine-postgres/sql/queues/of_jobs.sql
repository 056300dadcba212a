SELECT q.queue, q.name, q.alive, q.settings::text
FROM (SELECT DISTINCT queue FROM onefold.jobs WHERE ns = 0 AND seq = ANY ($1::bigint[]) OFFSET 0) j
CROSS JOIN LATERAL (SELECT * FROM onefold.queues WHERE ns = 0 AND queue = j.queue OFFSET 0) q
