UPDATE onefold.attempts AS t SET more = u.more::json
FROM unnest($1::bigint[], $2::integer[], $3::text[])
    AS u (seq, number, more),
    LATERAL (SELECT ctid FROM onefold.attempts WHERE ns = 0 AND seq = u.seq AND number = u.number OFFSET 0) k
WHERE t.ctid = k.ctid
