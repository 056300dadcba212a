SELECT id, template, schedule::text FROM onefold.schedules
WHERE ns = 0 AND id > $1::text ORDER BY id LIMIT $2::bigint
