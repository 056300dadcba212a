UPDATE onefold.specs AS t SET labels = u.labels::json
FROM unnest($1::bigint[], $2::text[])
    AS u (seq, labels),
    LATERAL (SELECT ctid FROM onefold.specs WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
