-- The attempt that was just completed, and the job with it.
UPDATE onefold.jobs AS t SET state = 4, finished_ms = $1::bigint, ended_ms = $1::bigint, outcome = 0, end_state = 4,
    content = u.content
FROM unnest($2::bigint[], $3::bigint[]) AS u (seq, content),
    LATERAL (SELECT ctid FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
