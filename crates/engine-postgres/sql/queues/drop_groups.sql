DELETE FROM onefold.groups WHERE ns = 0 AND queue = $1::integer
