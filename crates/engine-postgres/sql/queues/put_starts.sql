INSERT INTO onefold.rates AS r (queue, starts, last_ms, full_until_ms)
VALUES ($1::integer, $2::text, $3::bigint, $4::bigint)
ON CONFLICT (ns, queue) DO UPDATE
SET starts = excluded.starts, last_ms = excluded.last_ms, full_until_ms = excluded.full_until_ms
