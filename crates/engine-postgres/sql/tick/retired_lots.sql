-- Lots that were kept as long as their queue says.
SELECT l.queue, l.finished_ms, l.id, l.seqs FROM unnest($1::integer[], $2::bigint[]) AS u (queue, up_to_ms),
    LATERAL (SELECT * FROM onefold.lots
             WHERE ns = 0 AND queue = u.queue AND finished_ms <= u.up_to_ms
             ORDER BY finished_ms, id LIMIT $3::bigint FOR UPDATE SKIP LOCKED) l
LIMIT $3::bigint
