INSERT INTO onefold.ready (queue, lane, priority, seq, grouped)
SELECT u.queue, u.lane, u.priority, u.seq, u.grouped
FROM unnest($1::integer[], $2::integer[], $3::smallint[], $4::bigint[], $5::boolean[])
    AS u (queue, lane, priority, seq, grouped)
ON CONFLICT DO NOTHING
