INSERT INTO onefold_jobs (
    seq, created_at, queue, state, reason, priority, run_at, max_attempts, failures, lost_leases, recent_losses,
    retry_until, cancel, finished_at, group_order, duplicates, mismatches, retain, a_number, a_token, a_worker,
    a_started_at, a_lease, a_lease_until, a_deadline, a_poll, a_ended_at, a_outcome, a_end_state, a_content, a_rest, crc, pad)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24,
    ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33)
