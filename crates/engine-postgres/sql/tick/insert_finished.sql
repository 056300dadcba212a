INSERT INTO onefold.finished (queue, state, finished_ms, seq, own)
SELECT u.queue, u.state, u.finished_ms, u.seq, u.own
FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::bigint[], $5::boolean[])
    AS u (queue, state, finished_ms, seq, own)
ON CONFLICT DO NOTHING
