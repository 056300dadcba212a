SELECT l.poll, l.seq
FROM unnest($1::bigint[]) AS u (poll),
    LATERAL (SELECT poll, seq FROM onefold.leases WHERE poll = u.poll
             UNION
             SELECT w.poll, s.seq FROM onefold.watches w, unnest(w.seqs) AS s (seq) WHERE w.poll = u.poll OFFSET 0) l
ORDER BY l.poll, l.seq
