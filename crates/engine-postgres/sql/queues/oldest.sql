-- Who was accepted first of those in line: a look at the head of each lane and priority, in `ready` and in segments, where
-- entries that stand for nobody are passed by.
WITH RECURSIVE heads AS (
    SELECT u.queue, h.lane, h.priority, h.seq FROM unnest($1::integer[]) AS u (queue),
        LATERAL (SELECT lane, priority, seq FROM onefold.ready WHERE ns = 0 AND queue = u.queue
                 ORDER BY lane, priority, seq LIMIT 1) h
    UNION ALL
    SELECT p.queue, h.lane, h.priority, h.seq FROM heads p,
        LATERAL (SELECT lane, priority, seq FROM onefold.ready
                 WHERE ns = 0 AND queue = p.queue AND (lane, priority) > (p.lane, p.priority)
                 ORDER BY lane, priority, seq LIMIT 1) h
), priorities AS (
    SELECT u.queue, h.lane, h.priority FROM unnest($1::integer[]) AS u (queue),
        LATERAL (SELECT lane, priority FROM onefold.segments WHERE ns = 0 AND queue = u.queue
                 ORDER BY lane, priority, first LIMIT 1) h
    UNION ALL
    SELECT p.queue, h.lane, h.priority FROM priorities p,
        LATERAL (SELECT lane, priority FROM onefold.segments
                 WHERE ns = 0 AND queue = p.queue AND (lane, priority) > (p.lane, p.priority)
                 ORDER BY lane, priority, first LIMIT 1) h
), all_heads AS (
    SELECT queue, seq FROM heads
    UNION ALL
    SELECT p.queue, h.seq FROM priorities p,
        LATERAL (SELECT j.seq
                 FROM (SELECT seqs FROM onefold.segments
                       WHERE ns = 0 AND queue = p.queue AND lane = p.lane AND priority = p.priority
                       ORDER BY priority, first OFFSET 0) g
                 CROSS JOIN LATERAL unnest(g.seqs) AS s (seq)
                 CROSS JOIN LATERAL (SELECT seq, state, priority FROM onefold.jobs
                                     WHERE ns = 0 AND seq = s.seq OFFSET 0) j
                 WHERE j.state = 1 AND j.priority = p.priority LIMIT 1) h
)
SELECT o.queue, j.created_ms
FROM (SELECT queue, min(seq) AS seq FROM all_heads GROUP BY queue) o
CROSS JOIN LATERAL (SELECT created_ms FROM onefold.jobs WHERE ns = 0 AND seq = o.seq OFFSET 0) j
