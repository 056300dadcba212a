DELETE FROM onefold.members t USING unnest($1::integer[], $2::text[], $3::bigint[]) AS u (queue, grp, group_order)
WHERE t.ns = 0 AND t.queue = u.queue AND t.grp = u.grp AND t.group_order = u.group_order
