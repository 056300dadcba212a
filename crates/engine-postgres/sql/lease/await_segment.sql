-- One that is not known yet, once whoever claims from it is done.
SELECT s.priority, s.first, s.seqs FROM onefold.segments s
WHERE s.ns = 0 AND s.queue = $1::integer AND s.lane = $2::integer AND s.first <> ALL ($3::bigint[])
ORDER BY s.priority, s.first
LIMIT 1
FOR UPDATE
