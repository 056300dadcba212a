DELETE FROM onefold.keys t
USING unnest($1::integer[], $2::smallint[], $3::text[]) AS u (queue, space, key),
    LATERAL (SELECT tableoid, ctid FROM onefold.keys
             WHERE ns = 0 AND queue = u.queue AND space = u.space AND key = u.key OFFSET 0) k
WHERE t.tableoid = k.tableoid AND t.ctid = k.ctid
