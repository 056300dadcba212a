INSERT INTO onefold.groups (queue, grp) SELECT queue, grp FROM unnest($1::integer[], $2::text[]) AS u (queue, grp)
ON CONFLICT DO NOTHING
