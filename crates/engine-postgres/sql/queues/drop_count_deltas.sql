DELETE FROM onefold.count_deltas WHERE ns = 0 AND queue = $1::integer
