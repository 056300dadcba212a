SELECT u.place FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS u (queue, grp, place),
    LATERAL (SELECT 1 FROM onefold.groups WHERE ns = 0 AND queue = u.queue AND grp = u.grp FOR UPDATE) g
