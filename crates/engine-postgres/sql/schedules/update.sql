UPDATE onefold.schedules AS t
SET template = u.template, next_ms = u.next_ms, tz = u.tz, schedule = u.schedule::json
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS u (id, template, next_ms, tz, schedule),
    LATERAL (SELECT ctid FROM onefold.schedules WHERE ns = 0 AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
