SELECT seq, created_at, queue, state, reason, priority, run_at, max_attempts, failures, lost_leases, recent_losses,
    retry_until, cancel, finished_at, group_order, duplicates, mismatches, retain, a_number, a_token, a_worker,
    a_started_at, a_lease, a_lease_until, a_deadline, a_poll, a_ended_at, a_outcome, a_end_state, a_content, a_rest, crc
FROM onefold_jobs ORDER BY seq
