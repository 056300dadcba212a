INSERT INTO onefold_jobs (seq, created_at, queue, state, priority, run_at, finished_at, group_order, retain, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
