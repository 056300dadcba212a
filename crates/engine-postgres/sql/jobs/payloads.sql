SELECT s.seq, s.payload, c.value
FROM unnest($1::bigint[]) AS u (seq)
CROSS JOIN LATERAL (SELECT seq, payload FROM onefold.specs WHERE ns = 0 AND seq = u.seq OFFSET 0) s
LEFT JOIN LATERAL (SELECT value FROM onefold.checkpoints WHERE ns = 0 AND seq = u.seq OFFSET 0) c ON true
