SELECT id, template, schedule::text FROM onefold.schedules
WHERE ns = 0 AND id = $1::text AND next_ms <= $2::bigint
FOR UPDATE SKIP LOCKED
