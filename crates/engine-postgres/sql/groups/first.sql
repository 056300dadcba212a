-- The first members of groups, as many of each as given.
SELECT u.place, m.group_order, m.seq, m.phase
FROM unnest($1::integer[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u (queue, grp, first, place),
    LATERAL (SELECT group_order, seq, phase FROM onefold.members
             WHERE ns = 0 AND queue = u.queue AND grp = u.grp ORDER BY group_order LIMIT u.first) m
