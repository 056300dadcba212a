UPDATE onefold.attempts AS t SET more = u.more::json
FROM unnest($1::bigint[], $2::integer[], $3::text[])
    AS u (seq, number, more)
WHERE t.ns = 0 AND t.seq = u.seq AND t.number = u.number
