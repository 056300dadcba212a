-- After another time zone database came with this program: once, when a node begins to serve.
SELECT id, template, schedule::text FROM onefold.schedules
WHERE ns = 0 AND tz <> $1::text LIMIT $2::bigint
FOR UPDATE SKIP LOCKED
