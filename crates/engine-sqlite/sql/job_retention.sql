SELECT seq, created_at, queue, state, finished_at, retain, group_order IS NOT NULL
FROM onefold_jobs WHERE seq BETWEEN ?1 AND ?2 AND finished_at IS NOT NULL ORDER BY seq
