-- What is left of each is a piece of one parameter.
UPDATE onefold.watches AS t SET seqs = ($6::bigint[])[u.from_place : u.to_place], check_ms = u.next_ms
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::integer[])
    AS u (check_ms, id, next_ms, from_place, to_place),
    LATERAL (SELECT ctid FROM onefold.watches WHERE ns = 0 AND check_ms = u.check_ms AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
