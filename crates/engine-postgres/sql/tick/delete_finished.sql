DELETE FROM onefold.finished t
USING unnest($1::integer[], $2::smallint[], $3::bigint[], $4::bigint[]) AS u (queue, state, finished_ms, seq)
WHERE t.ns = 0 AND t.queue = u.queue AND t.state = u.state AND t.finished_ms = u.finished_ms AND t.seq = u.seq
