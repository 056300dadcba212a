-- Newest first, over a bounded number of rows.
SELECT j.seq, j.created_ms, j.queue, q.name, j.state, j.reason, j.priority, j.run_at_ms, j.max_attempts, j.failures,
       j.lost_leases, j.recent_losses, j.retry_until_ms, j.cancel_requested, j.finished_ms, j.group_order, j.blocks,
       j.duplicates, j.mismatches,
       j.number, j.token, j.worker, j.started_ms, coalesce(l.lease_ms, j.lease_ms),
       coalesce(l.lease_until_ms, j.lease_until_ms), coalesce(l.deadline_ms, j.deadline_ms), j.poll, j.ended_ms,
       j.outcome, j.end_state, j.content, j.more::text,
       s.kind, s.key, s.fingerprint, s.window_ms, s.free_on, s.on_duplicate, s.on_mismatch, s.version, s.max_delay_ms,
       s.grp, s.backoff::text, s.timeout_ms, s.labels::text, s.retain_ms, s.extra::text, s.payload_form,
       coalesce(octet_length(s.payload), 0)
FROM (SELECT * FROM onefold.jobs WHERE ns = 0 AND seq < $1::bigint ORDER BY seq DESC LIMIT $2::bigint) j
CROSS JOIN LATERAL (SELECT * FROM onefold.specs WHERE ns = 0 AND seq = j.seq OFFSET 0) s
CROSS JOIN LATERAL (SELECT name FROM onefold.queues WHERE ns = 0 AND queue = j.queue OFFSET 0) q
LEFT JOIN LATERAL (SELECT * FROM onefold.leases WHERE ns = 0 AND seq = j.seq OFFSET 0) l ON true
WHERE ($3::text IS NULL OR q.name = $3)
  AND (cardinality($4::smallint[]) = 0 OR j.state = ANY ($4))
  AND ($5::text IS NULL OR s.kind = $5)
  AND ($6::text IS NULL OR s.labels::jsonb ? $6)
  AND ($7::text IS NULL OR s.key = $7)
  AND ($8::text IS NULL OR s.grp = $8)
  AND ($9::bigint IS NULL OR j.created_ms >= $9)
  AND ($10::bigint IS NULL OR j.created_ms < $10)
ORDER BY j.seq DESC
LIMIT $11::bigint
