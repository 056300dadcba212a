INSERT INTO onefold.ready (queue, priority, seq, grouped)
SELECT u.queue, u.priority, u.seq, u.grouped
FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::boolean[])
    AS u (queue, priority, seq, grouped)
ON CONFLICT DO NOTHING
