-- As every job is accepted.
INSERT INTO onefold.jobs (seq, created_ms, queue, state, priority, run_at_ms, max_attempts, failures, lost_leases,
    recent_losses, cancel_requested, group_order, blocks, duplicates, mismatches, plain)
SELECT u.seq, $1::bigint, u.queue, u.state, u.priority, u.run_at_ms, u.max_attempts, 0, 0, '{}', false, u.group_order,
    false, 0, 0, u.plain
FROM unnest($2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::bigint[], $7::integer[], $8::bigint[],
    $9::boolean[])
    AS u (seq, queue, state, priority, run_at_ms, max_attempts, group_order, plain)
