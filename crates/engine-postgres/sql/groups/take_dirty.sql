DELETE FROM onefold.dirty t USING
    (SELECT queue, id FROM onefold.dirty WHERE ns = 0 AND queue = ANY ($1::integer[])
     ORDER BY queue, id LIMIT $2::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.ns = 0 AND t.queue = u.queue AND t.id = u.id
RETURNING t.queue, t.grp
