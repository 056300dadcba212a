DELETE FROM onefold.receipts t USING
    (SELECT token FROM onefold.receipts WHERE ns = 0 AND until_ms <= $1::bigint
     ORDER BY until_ms LIMIT $2::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.ns = 0 AND t.token = u.token
