SELECT seq, created_at, queue, state, priority, run_at, finished_at, group_order, retain, body
FROM onefold_jobs ORDER BY seq
