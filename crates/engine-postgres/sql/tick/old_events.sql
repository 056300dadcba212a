DELETE FROM onefold.events t USING
    (SELECT last FROM onefold.events WHERE ns = 0 AND at_ms <= $1::bigint
     ORDER BY last LIMIT $2::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.ns = 0 AND t.last = u.last
