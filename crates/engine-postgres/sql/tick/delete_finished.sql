DELETE FROM onefold.finished t
USING unnest($1::integer[], $2::smallint[], $3::bigint[], $4::bigint[]) AS u (queue, state, finished_ms, seq),
    LATERAL (SELECT ctid FROM onefold.finished WHERE ns = 0 AND queue = u.queue AND state = u.state AND finished_ms = u.finished_ms AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
