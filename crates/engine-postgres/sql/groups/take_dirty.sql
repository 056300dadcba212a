DELETE FROM onefold.dirty WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM onefold.dirty WHERE ns = 0 AND queue = ANY ($1::integer[])
    ORDER BY queue, id LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
RETURNING queue, grp
