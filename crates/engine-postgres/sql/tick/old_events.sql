DELETE FROM onefold.events WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM onefold.events WHERE ns = 0 AND at_ms <= $1::bigint
    ORDER BY last LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
