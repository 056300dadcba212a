-- The next of a queue, passing by whichever is being claimed.
SELECT s.priority, s.first, s.seqs FROM onefold.segments s
WHERE s.ns = 0 AND s.queue = $1::integer AND (s.priority, s.first) > ($2::smallint, $3::bigint)
ORDER BY s.priority, s.first
LIMIT $4::bigint
FOR UPDATE SKIP LOCKED
