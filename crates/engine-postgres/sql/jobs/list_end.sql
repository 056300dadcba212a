SELECT count(*), min(seq)
FROM (SELECT seq FROM onefold.jobs WHERE ns = 0 AND seq < $1::bigint ORDER BY seq DESC LIMIT $2::bigint) j
