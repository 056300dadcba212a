-- From the oldest on, as long as they are old.
DELETE FROM onefold.events WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM (SELECT ctid, at_ms FROM onefold.events WHERE ns = 0
                        ORDER BY last LIMIT $2::bigint FOR UPDATE SKIP LOCKED) e
    WHERE e.at_ms <= $1::bigint))
