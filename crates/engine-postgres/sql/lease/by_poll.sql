SELECT seq FROM onefold.leases WHERE ns = 0 AND poll = $1::bigint ORDER BY seq
