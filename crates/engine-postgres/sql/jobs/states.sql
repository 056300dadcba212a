SELECT j.seq, j.created_ms, j.state FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT seq, created_ms, state FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) j
