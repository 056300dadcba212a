DELETE FROM onefold.ready t
USING unnest($1::integer[], $2::integer[], $3::smallint[], $4::bigint[]) AS u (queue, lane, priority, seq),
    LATERAL (SELECT ctid FROM onefold.ready
             WHERE ns = 0 AND queue = u.queue AND lane = u.lane AND priority = u.priority AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
