SELECT u.place FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS u (queue, grp, place)
JOIN onefold.groups g ON g.ns = 0 AND g.queue = u.queue AND g.grp = u.grp
ORDER BY g.queue, g.grp FOR UPDATE OF g SKIP LOCKED
