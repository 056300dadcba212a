SELECT l.seq, l.lease_ms, l.lease_until_ms, l.deadline_ms FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT * FROM onefold.leases WHERE ns = 0 AND seq = u.seq OFFSET 0) l
