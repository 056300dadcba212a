-- Puts those who may be leased now in line for their groups, and whoever stood there before out of it.
-- Holders of the groups' locks only.
WITH want AS (
    SELECT g.queue, g.grp, g.ready_seq, g.ready_priority, h.seq, h.priority
    FROM unnest($1::integer[], $2::text[], $3::boolean[]) AS u (queue, grp, skip)
    JOIN onefold.groups g ON g.ns = 0 AND g.queue = u.queue AND g.grp = u.grp
    LEFT JOIN LATERAL (
        SELECT j.seq, j.priority
        FROM (SELECT seq, phase FROM onefold.members
              WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND (phase <> 0 OR NOT u.skip)
              ORDER BY group_order LIMIT 1) m
        JOIN onefold.jobs j ON j.ns = 0 AND j.seq = m.seq
        WHERE m.phase = 1 AND NOT EXISTS (
            SELECT 1 FROM onefold.members WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND phase = 2)
    ) h ON true
), gone AS (
    DELETE FROM onefold.ready t USING want w
    WHERE t.ns = 0 AND t.queue = w.queue AND t.priority = w.ready_priority AND t.seq = w.ready_seq
      AND (w.ready_seq, w.ready_priority) IS DISTINCT FROM (w.seq, w.priority)
), put AS (
    INSERT INTO onefold.ready (queue, priority, seq, grouped)
    SELECT queue, priority, seq, true FROM want WHERE seq IS NOT NULL
    ON CONFLICT DO NOTHING
)
UPDATE onefold.groups AS t SET ready_seq = w.seq, ready_priority = w.priority FROM want w
WHERE t.ns = 0 AND t.queue = w.queue AND t.grp = w.grp
  AND (w.ready_seq, w.ready_priority) IS DISTINCT FROM (w.seq, w.priority)
