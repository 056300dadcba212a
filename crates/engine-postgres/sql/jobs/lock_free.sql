-- In the order given, which is that of everybody.
SELECT j.seq FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT seq FROM onefold.jobs WHERE ns = 0 AND seq = u.seq FOR UPDATE SKIP LOCKED) j
