DELETE FROM onefold.keys t
WHERE t.ns = 0 AND t.queue = $1::integer AND (SELECT j.seq FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = t.seq LIMIT 1) IS NULL
