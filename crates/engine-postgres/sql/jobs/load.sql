SELECT j.seq, j.created_ms, j.queue, q.name, j.state, j.reason, j.priority, j.run_at_ms, j.max_attempts, j.failures,
       j.lost_leases, j.recent_losses, j.retry_until_ms, j.cancel_requested, j.finished_ms, j.group_order, j.blocks,
       j.duplicates, j.mismatches,
       j.number, j.token, j.worker, j.started_ms, coalesce(l.lease_ms, j.lease_ms),
       coalesce(l.lease_until_ms, j.lease_until_ms), coalesce(l.deadline_ms, j.deadline_ms), j.poll, j.ended_ms,
       j.outcome, j.end_state, j.content, j.more::text,
       s.kind, s.key, s.fingerprint, s.window_ms, s.free_on, s.on_duplicate, s.on_mismatch, s.version, s.max_delay_ms,
       s.grp, s.backoff::text, s.timeout_ms, s.labels::text, s.retain_ms, s.extra::text, s.payload_form,
       coalesce(octet_length(s.payload), 0)
FROM unnest($1::bigint[]) AS u (seq)
JOIN onefold.jobs j ON j.ns = 0 AND j.seq = u.seq
JOIN onefold.specs s ON s.ns = 0 AND s.seq = u.seq
JOIN onefold.queues q ON q.ns = 0 AND q.queue = j.queue
LEFT JOIN onefold.leases l ON l.ns = 0 AND l.queue = j.queue AND l.seq = j.seq
