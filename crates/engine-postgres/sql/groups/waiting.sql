-- Which available jobs wait for an earlier one of their group.
SELECT u.seq
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[], $5::boolean[])
    AS u (seq, queue, grp, group_order, skip)
WHERE (SELECT true FROM onefold.members m
       WHERE m.ns = 0 AND m.queue = u.queue AND m.grp = u.grp AND m.phase = 2 AND m.seq <> u.seq LIMIT 1)
   OR (SELECT true FROM onefold.members m
       WHERE m.ns = 0 AND m.queue = u.queue AND m.grp = u.grp AND m.group_order < u.group_order
         AND (m.phase <> 0 OR NOT u.skip) LIMIT 1)
