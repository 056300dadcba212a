DELETE FROM onefold.ready t USING unnest($1::integer[], $2::smallint[], $3::bigint[]) AS u (queue, priority, seq)
WHERE t.ns = 0 AND t.queue = u.queue AND t.priority = u.priority AND t.seq = u.seq
