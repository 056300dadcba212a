-- First answers outlive their jobs (I6).
INSERT INTO onefold.receipts (token, seq, created_ms, content, state, until_ms)
SELECT a.token, a.seq, j.created_ms, a.content, a.end_state, a.ended_ms + $3::bigint
FROM unnest($1::bigint[]) AS u (seq)
CROSS JOIN LATERAL (SELECT * FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) j
CROSS JOIN LATERAL (SELECT token, seq, content, end_state, ended_ms FROM onefold.attempts WHERE ns = 0 AND seq = j.seq
                    UNION ALL SELECT j.token, j.seq, j.content, j.end_state, j.ended_ms) a
WHERE a.content IS NOT NULL AND a.ended_ms + $3::bigint > $2::bigint
ON CONFLICT DO NOTHING
