UPDATE onefold_jobs
SET created_at = ?2, queue = ?3, state = ?4, reason = ?5, priority = ?6, run_at = ?7, max_attempts = ?8, failures = ?9,
    lost_leases = ?10, recent_losses = ?11, retry_until = ?12, cancel = ?13, finished_at = ?14, group_order = ?15,
    duplicates = ?16, mismatches = ?17, retain = ?18, a_number = ?19, a_token = ?20, a_worker = ?21, a_started_at = ?22,
    a_lease = ?23, a_lease_until = ?24, a_deadline = ?25, a_poll = ?26, a_ended_at = ?27, a_outcome = ?28,
    a_end_state = ?29, a_content = ?30, a_rest = ?31, crc = ?32, pad = ?33
WHERE seq = ?1
