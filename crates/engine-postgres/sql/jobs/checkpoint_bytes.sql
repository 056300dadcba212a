SELECT c.seq, octet_length(c.value) FROM unnest($1::bigint[]) AS u (seq)
CROSS JOIN LATERAL (SELECT seq, value FROM onefold.checkpoints WHERE ns = 0 AND seq = u.seq OFFSET 0) c
