UPDATE onefold_jobs
SET created_at = ?2, queue = ?3, state = ?4, priority = ?5, run_at = ?6, finished_at = ?7, group_order = ?8, retain = ?9,
    body = ?10
WHERE seq = ?1
