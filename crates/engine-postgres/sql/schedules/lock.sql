SELECT id, template, schedule::text FROM onefold.schedules WHERE ns = 0 AND id = $1::text FOR UPDATE
