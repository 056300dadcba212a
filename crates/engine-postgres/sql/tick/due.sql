SELECT t.seq, t.kind, t.due_ms FROM onefold.timers t
WHERE t.ns = 0 AND t.due_ms <= $1::bigint
ORDER BY t.due_ms, t.seq LIMIT $2::bigint
FOR UPDATE SKIP LOCKED
