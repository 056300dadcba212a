SELECT count(*) FROM (SELECT 1 FROM onefold.leases WHERE ns = 0 AND queue = $1::integer LIMIT $2::bigint) r
