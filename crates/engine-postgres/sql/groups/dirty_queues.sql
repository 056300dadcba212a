SELECT DISTINCT queue FROM (SELECT queue FROM onefold.dirty WHERE ns = 0 LIMIT $1::bigint) d
