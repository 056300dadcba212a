INSERT INTO onefold.timers (due_ms, seq, kind)
SELECT u.due_ms, u.seq, u.kind
FROM unnest($1::bigint[], $2::bigint[], $3::smallint[])
    AS u (due_ms, seq, kind)
ON CONFLICT DO NOTHING
