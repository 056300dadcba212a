DELETE FROM onefold.members WHERE ns = 0 AND queue = $1::integer
