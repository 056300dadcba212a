-- A queue's blocking heads no longer block. Tells which of them led unfinished jobs.
WITH gone AS (
    DELETE FROM onefold.members WHERE ns = 0 AND queue = $1::integer AND phase = 3 RETURNING queue, grp, group_order, seq
), unmarked AS (
    UPDATE onefold.jobs SET blocks = false WHERE ctid = ANY (ARRAY(
        SELECT j.ctid FROM gone g,
            LATERAL (SELECT ctid FROM onefold.jobs WHERE ns = 0 AND seq = g.seq OFFSET 0) j))
)
SELECT g.seq, j.created_ms, coalesce(j.number, 0)
FROM gone g
CROSS JOIN LATERAL (SELECT created_ms, number FROM onefold.jobs WHERE ns = 0 AND seq = g.seq OFFSET 0) j
WHERE (SELECT min(m.group_order) FROM onefold.members m
       WHERE m.ns = 0 AND m.queue = g.queue AND m.grp = g.grp AND m.phase <> 3) > g.group_order
ORDER BY g.seq
