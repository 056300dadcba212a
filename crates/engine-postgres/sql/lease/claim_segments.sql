-- The next of a line, passing by whichever is being claimed.
SELECT s.priority, s.first, s.seqs FROM onefold.segments s
WHERE s.ns = 0 AND s.queue = $1::integer AND s.lane = $2::integer AND (s.priority, s.first) > ($3::smallint, $4::bigint)
ORDER BY s.priority, s.first
LIMIT $5::bigint
FOR UPDATE SKIP LOCKED
