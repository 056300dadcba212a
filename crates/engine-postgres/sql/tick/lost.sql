SELECT l.seq FROM onefold.leases l
WHERE l.check_ms <= $1::bigint
ORDER BY l.check_ms LIMIT $2::bigint
FOR UPDATE SKIP LOCKED
