-- The attempt that was just opened.
UPDATE onefold.jobs AS t SET state = 2, number = u.number, token = u.token, worker = u.worker, started_ms = $1::bigint,
    lease_ms = u.lease_ms, lease_until_ms = u.lease_until_ms, deadline_ms = u.deadline_ms, poll = u.poll, ended_ms = NULL,
    outcome = NULL, end_state = NULL, content = NULL, more = NULL, retry_until_ms = u.retry_until_ms
FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[])
    AS u (seq, number, token, worker, lease_ms, lease_until_ms, deadline_ms, poll, retry_until_ms),
    LATERAL (SELECT ctid FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
