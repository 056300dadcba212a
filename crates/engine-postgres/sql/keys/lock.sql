SELECT u.place, k.seq, k.created_ms, k.fingerprint, k.until_ms, k.free_on
FROM unnest($1::integer[], $2::smallint[], $3::text[]) WITH ORDINALITY AS u (queue, space, key, place)
JOIN onefold.keys k ON k.ns = 0 AND k.queue = u.queue AND k.space = u.space AND k.key = u.key
ORDER BY k.queue, k.space, k.key FOR UPDATE OF k
