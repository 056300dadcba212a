-- What is left of each is a piece of one parameter.
UPDATE onefold.lots AS t SET seqs = ($7::bigint[])[u.from_place : u.to_place], finished_ms = u.next_ms
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[])
    AS u (queue, finished_ms, id, next_ms, from_place, to_place),
    LATERAL (SELECT ctid FROM onefold.lots
             WHERE ns = 0 AND queue = u.queue AND finished_ms = u.finished_ms AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
