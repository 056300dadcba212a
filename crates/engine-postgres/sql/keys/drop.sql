DELETE FROM onefold.keys WHERE ns = 0 AND queue = $1::integer
