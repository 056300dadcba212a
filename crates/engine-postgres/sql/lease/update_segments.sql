-- What is left of each is a piece of the last parameter.
UPDATE onefold.segments AS t SET seqs = ($6::bigint[])[u.from_place : u.to_place]
FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::integer[], $5::integer[])
    AS u (queue, priority, first, from_place, to_place),
    LATERAL (SELECT ctid FROM onefold.segments
             WHERE ns = 0 AND queue = u.queue AND priority = u.priority AND first = u.first OFFSET 0) k
WHERE t.ctid = k.ctid
