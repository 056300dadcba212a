-- A queue's blocking heads no longer block. Tells which of them led unfinished jobs.
WITH gone AS (
    DELETE FROM onefold.members WHERE ns = 0 AND queue = $1::integer AND phase = 3 RETURNING queue, grp, group_order, seq
), unmarked AS (
    UPDATE onefold.jobs j SET blocks = false FROM gone g WHERE j.ns = 0 AND j.seq = g.seq
)
SELECT g.seq, j.created_ms, coalesce(j.number, 0)
FROM gone g JOIN onefold.jobs j ON j.ns = 0 AND j.seq = g.seq
WHERE EXISTS (SELECT 1 FROM onefold.members m
              WHERE m.ns = 0 AND m.queue = g.queue AND m.grp = g.grp AND m.phase <> 3)
  AND NOT EXISTS (SELECT 1 FROM onefold.members m
                  WHERE m.ns = 0 AND m.queue = g.queue AND m.grp = g.grp AND m.phase <> 3
                    AND m.group_order < g.group_order)
ORDER BY g.seq
