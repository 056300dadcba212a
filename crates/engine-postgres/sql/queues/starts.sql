SELECT queue, starts FROM onefold.rates WHERE ns = 0 AND queue = ANY ($1::integer[])
