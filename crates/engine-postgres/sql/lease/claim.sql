-- The next of a line, passing by whoever is being claimed. What comes of a row is decided under its job's lock.
SELECT r.priority, r.seq, r.grouped FROM onefold.ready r
WHERE r.ns = 0 AND r.queue = $1::integer AND r.lane = $2::integer AND (r.priority, r.seq) > ($3::smallint, $4::bigint)
ORDER BY r.priority, r.seq
LIMIT $5::bigint
FOR UPDATE SKIP LOCKED
