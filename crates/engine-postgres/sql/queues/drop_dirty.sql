DELETE FROM onefold.dirty WHERE ns = 0 AND queue = $1::integer
