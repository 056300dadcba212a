DELETE FROM onefold.segments WHERE ns = 0 AND queue = $1::integer
