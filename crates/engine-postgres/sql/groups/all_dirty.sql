INSERT INTO onefold.dirty (queue, grp)
SELECT DISTINCT queue, grp FROM onefold.members WHERE ns = 0 AND queue = $1::integer
