-- Keys nobody holds any more: their window is over and their job finished or gone.
DELETE FROM onefold.keys t USING
    (SELECT k.tableoid, k.ctid FROM onefold.keys k
     WHERE k.until_ms <= $1::bigint AND (k.space <> 0 OR (
         SELECT j.finished_ms IS NOT NULL FROM onefold.jobs j WHERE j.ns = k.ns AND j.seq = k.seq) IS NOT FALSE)
     ORDER BY k.until_ms LIMIT $2::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.tableoid = u.tableoid AND t.ctid = u.ctid
