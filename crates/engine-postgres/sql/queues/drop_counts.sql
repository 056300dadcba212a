DELETE FROM onefold.counts WHERE ns = 0 AND queue = $1::integer
