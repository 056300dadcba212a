-- Keys nobody holds any more: their window is over and their job finished or gone.
DELETE FROM onefold.keys t USING
    (SELECT k.queue, k.space, k.key FROM onefold.keys k
     WHERE k.ns = 0 AND k.until_ms <= $1::bigint AND (k.space = 1 OR NOT EXISTS (
         SELECT 1 FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = k.seq AND j.finished_ms IS NULL))
     LIMIT $2::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.ns = 0 AND t.queue = u.queue AND t.space = u.space AND t.key = u.key AND t.until_ms <= $1::bigint
