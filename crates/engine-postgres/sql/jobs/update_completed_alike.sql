-- Attempts that were just completed alike, and the jobs with them: rows that are locked, where they are.
UPDATE onefold.jobs SET state = 4, finished_ms = $1::bigint, ended_ms = $1::bigint, outcome = 0, end_state = 4,
    content = $2::bigint
WHERE ctid = ANY ($3::tid[]) AND state = 2
