DELETE FROM onefold.keys t
USING unnest($1::integer[], $2::smallint[], $3::text[]) AS u (queue, space, key)
WHERE t.ns = 0 AND t.queue = u.queue AND t.space = u.space AND t.key = u.key
