DELETE FROM onefold.segments t
USING unnest($1::integer[], $2::integer[], $3::smallint[], $4::bigint[]) AS u (queue, lane, priority, first),
    LATERAL (SELECT ctid FROM onefold.segments
             WHERE ns = 0 AND queue = u.queue AND lane = u.lane AND priority = u.priority AND first = u.first OFFSET 0) k
WHERE t.ctid = k.ctid
