-- Who was accepted first of those in line: a look at the head of each priority.
WITH RECURSIVE heads AS (
    SELECT u.queue, h.priority, h.seq FROM unnest($1::integer[]) AS u (queue),
        LATERAL (SELECT priority, seq FROM onefold.ready WHERE ns = 0 AND queue = u.queue
                 ORDER BY priority, seq LIMIT 1) h
    UNION ALL
    SELECT p.queue, h.priority, h.seq FROM heads p,
        LATERAL (SELECT priority, seq FROM onefold.ready WHERE ns = 0 AND queue = p.queue AND priority > p.priority
                 ORDER BY priority, seq LIMIT 1) h
)
SELECT o.queue, j.created_ms
FROM (SELECT queue, min(seq) AS seq FROM heads GROUP BY queue) o
CROSS JOIN LATERAL (SELECT created_ms FROM onefold.jobs WHERE ns = 0 AND seq = o.seq OFFSET 0) j
