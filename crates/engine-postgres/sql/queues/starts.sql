SELECT r.queue, r.starts FROM unnest($1::integer[]) AS u (queue),
    LATERAL (SELECT queue, starts FROM onefold.rates WHERE ns = 0 AND queue = u.queue OFFSET 0) r
