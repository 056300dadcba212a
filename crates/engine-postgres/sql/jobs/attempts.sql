SELECT seq, number, token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome, end_state, content, more::text FROM onefold.attempts
WHERE ns = 0 AND seq = ANY ($1::bigint[]) ORDER BY seq, number
