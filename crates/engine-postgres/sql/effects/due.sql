SELECT scope, key, record FROM onefold.effects WHERE due_ms <= $1::bigint
ORDER BY due_ms LIMIT $2::bigint FOR UPDATE SKIP LOCKED
