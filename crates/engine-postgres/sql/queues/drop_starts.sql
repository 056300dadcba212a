DELETE FROM onefold.rates WHERE ns = 0 AND queue = $1::integer
