INSERT INTO onefold.count_deltas (queue, accepted, scheduled, available, running, retrying, completed, dead,
    cancelled, purged_retention, purged_deleted, duplicates, mismatches, late_writes)
SELECT u.queue, u.accepted, u.scheduled, u.available, u.running, u.retrying, u.completed, u.dead, u.cancelled,
    u.purged_retention, u.purged_deleted, u.duplicates, u.mismatches, u.late_writes
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
    AS u (queue, accepted, scheduled, available, running, retrying, completed, dead, cancelled, purged_retention,
    purged_deleted, duplicates, mismatches, late_writes)
