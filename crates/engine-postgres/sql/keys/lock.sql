SELECT u.place, k.seq, k.created_ms, k.fingerprint, k.until_ms, k.free_on
FROM unnest($1::integer[], $2::smallint[], $3::text[]) WITH ORDINALITY AS u (queue, space, key, place),
    LATERAL (SELECT * FROM onefold.keys
             WHERE ns = 0 AND queue = u.queue AND space = u.space AND key = u.key FOR UPDATE) k
