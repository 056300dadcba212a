DELETE FROM onefold.timers
WHERE ns = 0 AND seq IN (SELECT seq FROM onefold.jobs WHERE ns = 0 AND queue = $1::integer)
