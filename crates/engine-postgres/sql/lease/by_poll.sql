SELECT l.poll, l.seq
FROM unnest($1::bigint[]) AS u (poll),
    LATERAL (SELECT poll, seq FROM onefold.leases WHERE ns = 0 AND poll = u.poll OFFSET 0) l
ORDER BY l.poll, l.seq
