SELECT j.seq FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT seq, state FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) j
WHERE j.state = 2
