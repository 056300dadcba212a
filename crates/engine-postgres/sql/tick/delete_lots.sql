DELETE FROM onefold.lots t USING unnest($1::integer[], $2::bigint[], $3::bigint[]) AS u (queue, finished_ms, id),
    LATERAL (SELECT ctid FROM onefold.lots
             WHERE ns = 0 AND queue = u.queue AND finished_ms = u.finished_ms AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
