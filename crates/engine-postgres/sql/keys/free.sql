-- Only the holder frees its key (I3).
DELETE FROM onefold.keys t
USING unnest($1::integer[], $2::text[], $3::bigint[]) AS u (queue, key, seq)
WHERE t.ns = 0 AND t.queue = u.queue AND t.space = 0 AND t.key = u.key AND t.seq = u.seq
