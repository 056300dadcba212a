DELETE FROM onefold.lots t
WHERE t.ns = 0 AND t.queue = $1::integer AND (
    SELECT j.seq FROM unnest(t.seqs) AS s (seq),
        LATERAL (SELECT seq FROM onefold.jobs WHERE ns = 0 AND seq = s.seq OFFSET 0) j LIMIT 1) IS NULL
