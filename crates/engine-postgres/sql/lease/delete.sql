DELETE FROM onefold.leases t USING unnest($1::integer[], $2::bigint[]) AS u (queue, seq)
WHERE t.ns = 0 AND t.queue = u.queue AND t.seq = u.seq
