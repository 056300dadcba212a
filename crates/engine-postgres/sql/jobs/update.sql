UPDATE onefold.jobs AS t SET state = u.state, reason = u.reason, priority = u.priority, run_at_ms = u.run_at_ms,
    max_attempts = u.max_attempts, failures = u.failures, lost_leases = u.lost_leases, recent_losses =
    u.recent_losses::bigint[], retry_until_ms = u.retry_until_ms, cancel_requested = u.cancel_requested, finished_ms =
    u.finished_ms, group_order = u.group_order, blocks = u.blocks, duplicates = u.duplicates, mismatches =
    u.mismatches, number = u.number, token = u.token, worker = u.worker, started_ms = u.started_ms, lease_ms =
    u.lease_ms, lease_until_ms = u.lease_until_ms, deadline_ms = u.deadline_ms, poll = u.poll, ended_ms = u.ended_ms,
    outcome = u.outcome, end_state = u.end_state, content = u.content, more = u.more::json
FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::smallint[], $5::bigint[], $6::integer[], $7::integer[],
    $8::integer[], $9::text[], $10::bigint[], $11::boolean[], $12::bigint[], $13::bigint[], $14::boolean[],
    $15::integer[], $16::integer[], $17::integer[], $18::bigint[], $19::text[], $20::bigint[], $21::bigint[],
    $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::smallint[], $27::smallint[], $28::bigint[],
    $29::text[])
    AS u (seq, state, reason, priority, run_at_ms, max_attempts, failures, lost_leases, recent_losses, retry_until_ms,
    cancel_requested, finished_ms, group_order, blocks, duplicates, mismatches, number, token, worker, started_ms,
    lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome, end_state, content, more),
    LATERAL (SELECT ctid FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
