INSERT INTO onefold.jobs (seq, created_ms, queue, state, reason, priority, run_at_ms, max_attempts, failures,
    lost_leases, recent_losses, retry_until_ms, cancel_requested, finished_ms, group_order, blocks, duplicates,
    mismatches, number, token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome,
    end_state, content, more)
SELECT u.seq, u.created_ms, u.queue, u.state, u.reason, u.priority, u.run_at_ms, u.max_attempts, u.failures,
    u.lost_leases, u.recent_losses::bigint[], u.retry_until_ms, u.cancel_requested, u.finished_ms, u.group_order,
    u.blocks, u.duplicates, u.mismatches, u.number, u.token, u.worker, u.started_ms, u.lease_ms, u.lease_until_ms,
    u.deadline_ms, u.poll, u.ended_ms, u.outcome, u.end_state, u.content, u.more::json
FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::smallint[], $7::bigint[],
    $8::integer[], $9::integer[], $10::integer[], $11::text[], $12::bigint[], $13::boolean[], $14::bigint[],
    $15::bigint[], $16::boolean[], $17::integer[], $18::integer[], $19::integer[], $20::bigint[], $21::text[],
    $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::smallint[],
    $29::smallint[], $30::bigint[], $31::text[])
    AS u (seq, created_ms, queue, state, reason, priority, run_at_ms, max_attempts, failures, lost_leases,
    recent_losses, retry_until_ms, cancel_requested, finished_ms, group_order, blocks, duplicates, mismatches, number,
    token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome, end_state, content,
    more)
