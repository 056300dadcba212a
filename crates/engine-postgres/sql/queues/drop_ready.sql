DELETE FROM onefold.ready WHERE ns = 0 AND queue = $1::integer
