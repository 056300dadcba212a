-- Queues whose rate has room again since the longest time between two ticks.
SELECT q.queue, q.name, q.alive, q.settings::text
FROM (SELECT queue FROM onefold.rates WHERE full_until_ms BETWEEN $1::bigint AND $2::bigint OFFSET 0) r
CROSS JOIN LATERAL (SELECT * FROM onefold.queues WHERE ns = 0 AND queue = r.queue OFFSET 0) q
