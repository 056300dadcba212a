SELECT seq, created_at, queue, state, priority, run_at, finished_at, group_order, retain, body
FROM onefold_jobs WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq
