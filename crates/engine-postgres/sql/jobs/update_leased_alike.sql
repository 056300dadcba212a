-- Attempts that were just opened and differ by nothing but their tokens: of rows that are locked, where they are.
UPDATE onefold.jobs SET state = 2, number = $1::integer, token = ($2::bigint[])[array_position($3::bigint[], seq)],
    worker = $4::text, started_ms = $5::bigint, lease_ms = $6::bigint, lease_until_ms = $7::bigint,
    deadline_ms = $8::bigint, poll = $9::bigint, ended_ms = NULL, outcome = NULL, end_state = NULL, content = NULL,
    more = NULL, retry_until_ms = $10::bigint
WHERE ctid = ANY ($11::tid[]) AND state = 1
