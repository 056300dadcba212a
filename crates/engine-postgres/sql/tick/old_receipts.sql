DELETE FROM onefold.receipts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM onefold.receipts WHERE until_ms <= $1::bigint
    ORDER BY until_ms LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
