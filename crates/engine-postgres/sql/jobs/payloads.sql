SELECT s.seq, s.payload, c.value
FROM unnest($1::bigint[]) AS u (seq)
JOIN onefold.specs s ON s.ns = 0 AND s.seq = u.seq
LEFT JOIN onefold.checkpoints c ON c.ns = 0 AND c.seq = u.seq
