SELECT s.seq, s.payload, c.value
FROM (SELECT seq, payload FROM onefold.specs WHERE ns = 0 AND seq = ANY ($1::bigint[]) OFFSET 0) s
LEFT JOIN LATERAL (SELECT value FROM onefold.checkpoints WHERE ns = 0 AND seq = s.seq OFFSET 0) c ON true
