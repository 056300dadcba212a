WITH gone AS (
    DELETE FROM onefold.count_deltas WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM onefold.count_deltas WHERE ns = 0 AND id > $2::bigint ORDER BY id LIMIT $1::bigint FOR UPDATE SKIP LOCKED))
    RETURNING *
), put AS (
INSERT INTO onefold.counts AS c (queue, accepted, scheduled, available, running, retrying, completed, dead, cancelled,
    purged_retention, purged_deleted, duplicates, mismatches, late_writes)
SELECT queue, sum(accepted), sum(scheduled), sum(available), sum(running), sum(retrying), sum(completed), sum(dead),
    sum(cancelled), sum(purged_retention), sum(purged_deleted), sum(duplicates), sum(mismatches), sum(late_writes)
    FROM gone GROUP BY queue ORDER BY queue
ON CONFLICT (ns, queue) DO UPDATE SET accepted = c.accepted + excluded.accepted, scheduled = c.scheduled +
    excluded.scheduled, available = c.available + excluded.available, running = c.running + excluded.running, retrying
    = c.retrying + excluded.retrying, completed = c.completed + excluded.completed, dead = c.dead + excluded.dead,
    cancelled = c.cancelled + excluded.cancelled, purged_retention = c.purged_retention + excluded.purged_retention,
    purged_deleted = c.purged_deleted + excluded.purged_deleted, duplicates = c.duplicates + excluded.duplicates,
    mismatches = c.mismatches + excluded.mismatches, late_writes = c.late_writes + excluded.late_writes
)
SELECT max(id) FROM gone
