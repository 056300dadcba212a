SELECT w.check_ms, w.id, w.seqs FROM onefold.watches w
WHERE w.ns = 0 AND w.check_ms > $3::bigint AND w.check_ms <= $1::bigint
ORDER BY w.check_ms, w.id LIMIT $2::bigint
FOR UPDATE SKIP LOCKED
