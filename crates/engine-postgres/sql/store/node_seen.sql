-- Whether nobody served for so long; and that somebody does now.
WITH others AS (SELECT max(seen_at) AS last FROM onefold.nodes WHERE ns = 0),
     here AS (INSERT INTO onefold.nodes (node, seen_at) VALUES ($1::text, clock_timestamp())
              ON CONFLICT (ns, node) DO UPDATE SET seen_at = clock_timestamp())
SELECT coalesce(last < clock_timestamp() - $2::bigint * interval '1 millisecond', true) FROM others
