-- What is left of each is a piece of the last parameter.
UPDATE onefold.watches AS t SET seqs = ($5::bigint[])[u.from_place : u.to_place]
FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[]) AS u (check_ms, id, from_place, to_place),
    LATERAL (SELECT ctid FROM onefold.watches WHERE ns = 0 AND check_ms = u.check_ms AND id = u.id OFFSET 0) k
WHERE t.ctid = k.ctid
