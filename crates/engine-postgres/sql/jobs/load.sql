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
CROSS JOIN LATERAL (SELECT * FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) j
CROSS JOIN LATERAL (SELECT * FROM onefold.specs WHERE ns = 0 AND seq = j.seq OFFSET 0) s
CROSS JOIN LATERAL (SELECT name FROM onefold.queues WHERE ns = 0 AND queue = j.queue OFFSET 0) q
LEFT JOIN LATERAL (SELECT * FROM onefold.leases WHERE ns = 0 AND seq = j.seq OFFSET 0) l ON true
