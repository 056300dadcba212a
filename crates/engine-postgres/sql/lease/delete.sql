DELETE FROM onefold.leases t USING unnest($1::integer[], $2::bigint[]) AS u (queue, seq),
    LATERAL (SELECT ctid FROM onefold.leases WHERE ns = 0 AND queue = u.queue AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
