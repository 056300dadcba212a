-- `check_ms` moves only forward in ticks, and back when the lease became shorter.
UPDATE onefold.leases AS t
SET lease_ms = u.lease_ms, lease_until_ms = u.lease_until_ms, deadline_ms = u.deadline_ms,
    check_ms = CASE WHEN u.recheck OR t.check_ms > u.check_ms THEN u.check_ms ELSE t.check_ms END
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
    AS u (seq, lease_ms, lease_until_ms, deadline_ms, check_ms, recheck),
    LATERAL (SELECT ctid FROM onefold.leases WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
