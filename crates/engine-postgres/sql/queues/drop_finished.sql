DELETE FROM onefold.finished WHERE ns = 0 AND queue = $1::integer
