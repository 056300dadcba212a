-- In the order given, which is that of everybody. What is read under the lock is as new as the lock.
SELECT j.* FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT seq, created_ms, queue, state, reason, priority, run_at_ms, max_attempts, failures,
        lost_leases, recent_losses, retry_until_ms, cancel_requested, finished_ms, group_order, blocks, duplicates,
        mismatches, number, token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome,
        end_state, content, more::text, plain, ctid
    FROM onefold.jobs WHERE ns = 0 AND seq = u.seq FOR UPDATE) j
