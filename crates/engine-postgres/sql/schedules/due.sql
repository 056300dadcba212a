SELECT id, template, schedule::text FROM onefold.schedules
WHERE next_ms <= $1::bigint
ORDER BY next_ms, id LIMIT $2::bigint
FOR UPDATE SKIP LOCKED
