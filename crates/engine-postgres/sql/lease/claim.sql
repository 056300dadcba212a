-- The next of a queue, passing by whoever is being claimed. What comes of a row is decided under its job's lock.
SELECT r.priority, r.seq, r.grouped FROM onefold.ready r
WHERE r.ns = 0 AND r.queue = $1::integer AND (r.priority, r.seq) > ($2::smallint, $3::bigint)
ORDER BY r.priority, r.seq
LIMIT $4::bigint
FOR UPDATE SKIP LOCKED
