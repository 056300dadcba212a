DELETE FROM onefold.ready t USING unnest($1::integer[], $2::smallint[], $3::bigint[]) AS u (queue, priority, seq),
    LATERAL (SELECT ctid FROM onefold.ready WHERE ns = 0 AND queue = u.queue AND priority = u.priority AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
