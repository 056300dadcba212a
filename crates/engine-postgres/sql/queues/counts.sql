SELECT queue, sum(accepted)::bigint, sum(scheduled)::bigint, sum(available)::bigint, sum(running)::bigint,
    sum(retrying)::bigint, sum(completed)::bigint, sum(dead)::bigint, sum(cancelled)::bigint,
    sum(purged_retention)::bigint, sum(purged_deleted)::bigint, sum(duplicates)::bigint, sum(mismatches)::bigint,
    sum(late_writes)::bigint
FROM (SELECT queue, accepted, scheduled, available, running, retrying, completed, dead, cancelled, purged_retention,
    purged_deleted, duplicates, mismatches, late_writes FROM onefold.counts WHERE ns = 0 UNION ALL SELECT queue,
    accepted, scheduled, available, running, retrying, completed, dead, cancelled, purged_retention, purged_deleted,
    duplicates, mismatches, late_writes FROM onefold.count_deltas WHERE ns = 0) c
WHERE $1::integer[] IS NULL OR queue = ANY ($1)
GROUP BY queue
