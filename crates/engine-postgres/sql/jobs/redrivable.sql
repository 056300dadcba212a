-- Finished jobs of a queue, oldest first.
SELECT j.seq
FROM onefold.finished f
JOIN onefold.jobs j ON j.ns = 0 AND j.seq = f.seq
JOIN onefold.specs s ON s.ns = 0 AND s.seq = j.seq
WHERE f.ns = 0 AND f.queue = $1::integer AND f.state = ANY ($2::smallint[])
  AND ($3::text IS NULL OR s.kind = $3)
  AND ($4::text IS NULL OR s.labels::jsonb ? $4)
  AND ($5::text IS NULL OR s.key = $5)
  AND ($6::text IS NULL OR s.grp = $6)
  AND ($7::bigint IS NULL OR j.created_ms >= $7)
  AND ($8::bigint IS NULL OR j.created_ms < $8)
ORDER BY j.seq
LIMIT $9::bigint
