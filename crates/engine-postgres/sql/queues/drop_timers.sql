DELETE FROM onefold.timers t USING onefold.jobs j
WHERE t.ns = 0 AND j.ns = 0 AND t.seq = j.seq AND j.queue = $1::integer
