DELETE FROM onefold.watches t USING unnest($1::bigint[], $2::bigint[]) AS u (check_ms, id),
    LATERAL (SELECT ctid FROM onefold.watches WHERE ns = 0 AND check_ms = u.check_ms AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
