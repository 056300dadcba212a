SELECT seq FROM onefold.leases WHERE ns = 0 AND seq > $1::bigint ORDER BY seq LIMIT $2::bigint
