INSERT INTO onefold.schedules (id, template, next_ms, tz, schedule)
VALUES ($1::text, $2::bigint, $3::bigint, $4::text, $5::text::json)
ON CONFLICT DO NOTHING
