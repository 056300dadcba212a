SELECT queue, seq FROM onefold.leases WHERE ns = 0 AND (queue, seq) > ($1::integer, $2::bigint)
ORDER BY queue, seq LIMIT $3::bigint
