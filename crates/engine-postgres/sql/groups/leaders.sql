-- Who of each group may be leased: nobody while one runs, else the first that waits for nothing but its turn.
SELECT u.place, h.seq
FROM unnest($1::integer[], $2::text[], $3::boolean[]) WITH ORDINALITY AS u (queue, grp, skip, place),
    LATERAL (SELECT seq, phase FROM onefold.members
             WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND (phase <> 0 OR NOT u.skip)
             ORDER BY group_order LIMIT 1) h
WHERE h.phase = 1 AND (
    SELECT seq FROM onefold.members WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND phase = 2 LIMIT 1) IS NULL
