-- Finished jobs of a queue, oldest first.
SELECT j.seq
FROM (SELECT seq FROM onefold.finished
      WHERE ns = 0 AND queue = $1::integer AND state = ANY ($2::smallint[]) OFFSET 0) f
CROSS JOIN LATERAL (SELECT seq, created_ms FROM onefold.jobs WHERE ns = 0 AND seq = f.seq OFFSET 0) j
CROSS JOIN LATERAL (SELECT kind, labels, key, grp FROM onefold.specs WHERE ns = 0 AND seq = f.seq OFFSET 0) s
WHERE ($3::text IS NULL OR s.kind = $3)
  AND ($4::text IS NULL OR s.labels::jsonb ? $4)
  AND ($5::text IS NULL OR s.key = $5)
  AND ($6::text IS NULL OR s.grp = $6)
  AND ($7::bigint IS NULL OR j.created_ms >= $7)
  AND ($8::bigint IS NULL OR j.created_ms < $8)
ORDER BY j.seq
LIMIT $9::bigint
