SELECT result FROM onefold.results WHERE ns = 0 AND seq = $1::bigint
