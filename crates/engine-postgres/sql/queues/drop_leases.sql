DELETE FROM onefold.leases WHERE ns = 0 AND queue = $1::integer
