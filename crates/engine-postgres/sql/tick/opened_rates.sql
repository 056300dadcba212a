-- Queues whose rate has room again since the longest time between two ticks.
SELECT q.queue, q.name, q.alive, q.settings::text
FROM onefold.rates r JOIN onefold.queues q ON q.ns = r.ns AND q.queue = r.queue
WHERE r.ns = 0 AND r.full_until_ms BETWEEN $1::bigint AND $2::bigint
