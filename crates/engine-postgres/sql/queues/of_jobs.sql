SELECT q.queue, q.name, q.alive, q.settings::text
FROM (SELECT DISTINCT j.queue FROM unnest($1::bigint[]) AS u (seq),
          LATERAL (SELECT queue FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) j OFFSET 0) n
CROSS JOIN LATERAL (SELECT * FROM onefold.queues WHERE ns = 0 AND queue = n.queue OFFSET 0) q
