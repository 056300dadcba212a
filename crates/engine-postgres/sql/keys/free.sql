-- Only the holder frees its key (I3).
DELETE FROM onefold.keys t
USING unnest($1::integer[], $2::text[], $3::bigint[]) AS u (queue, key, seq),
    LATERAL (SELECT tableoid, ctid FROM onefold.keys
             WHERE ns = 0 AND queue = u.queue AND space = 0 AND key = u.key AND seq = u.seq OFFSET 0) k
WHERE t.tableoid = k.tableoid AND t.ctid = k.ctid
