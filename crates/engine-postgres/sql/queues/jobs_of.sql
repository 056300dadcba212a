SELECT seq, created_ms, state FROM onefold.jobs WHERE ns = 0 AND queue = $1::integer ORDER BY seq FOR UPDATE
