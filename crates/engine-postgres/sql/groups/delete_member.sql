DELETE FROM onefold.members t USING unnest($1::integer[], $2::text[], $3::bigint[]) AS u (queue, grp, group_order),
    LATERAL (SELECT ctid FROM onefold.members WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND group_order = u.group_order OFFSET 0) k
WHERE t.ctid = k.ctid
