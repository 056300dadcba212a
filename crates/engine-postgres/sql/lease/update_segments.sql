-- What is left of each is a piece of the last parameter.
UPDATE onefold.segments AS t SET seqs = ($7::bigint[])[u.from_place : u.to_place]
FROM unnest($1::integer[], $2::integer[], $3::smallint[], $4::bigint[], $5::integer[], $6::integer[])
    AS u (queue, lane, priority, first, from_place, to_place),
    LATERAL (SELECT ctid FROM onefold.segments
             WHERE ns = 0 AND queue = u.queue AND lane = u.lane AND priority = u.priority AND first = u.first OFFSET 0) k
WHERE t.ctid = k.ctid
