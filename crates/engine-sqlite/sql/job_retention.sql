SELECT seq, queue, state, finished_at, retain FROM onefold_jobs WHERE seq BETWEEN ?1 AND ?2 AND finished_at IS NOT NULL ORDER BY seq
