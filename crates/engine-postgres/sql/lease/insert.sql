INSERT INTO onefold.leases (queue, seq, lease_ms, lease_until_ms, deadline_ms, check_ms, poll)
SELECT u.queue, u.seq, u.lease_ms, u.lease_until_ms, u.deadline_ms, u.check_ms, u.poll
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS u (queue, seq, lease_ms, lease_until_ms, deadline_ms, check_ms, poll)
ON CONFLICT (ns, seq) DO UPDATE SET queue = excluded.queue, lease_ms = excluded.lease_ms, lease_until_ms =
    excluded.lease_until_ms, deadline_ms = excluded.deadline_ms, check_ms = excluded.check_ms, poll = excluded.poll
