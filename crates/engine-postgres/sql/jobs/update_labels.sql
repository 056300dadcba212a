UPDATE onefold.specs AS t SET labels = u.labels::json
FROM unnest($1::bigint[], $2::text[])
    AS u (seq, labels)
WHERE t.ns = 0 AND t.seq = u.seq
