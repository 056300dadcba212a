SELECT a.seq, a.number, a.token, a.worker, a.started_ms, a.lease_ms, a.lease_until_ms, a.deadline_ms, a.poll, a.ended_ms,
    a.outcome, a.end_state, a.content, a.more::text
FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT * FROM onefold.attempts WHERE ns = 0 AND seq = u.seq OFFSET 0) a
ORDER BY a.seq, a.number
