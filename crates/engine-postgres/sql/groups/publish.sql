-- Puts those who may be leased now in line for their groups, and whoever stood there before out of it.
-- Holders of the groups' locks only.
WITH want AS (
    SELECT g.ctid AS at, g.queue, g.ready_seq, g.ready_lane, g.ready_priority, h.seq, h.lane, h.priority
    FROM unnest($1::integer[], $2::text[], $3::boolean[]) AS u (queue, grp, skip)
    CROSS JOIN LATERAL (SELECT *, ctid FROM onefold.groups WHERE ns = 0 AND queue = u.queue AND grp = u.grp OFFSET 0) g
    LEFT JOIN LATERAL (
        SELECT m.seq, s.lane, j.priority
        FROM (SELECT seq, phase FROM onefold.members
              WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND (phase <> 0 OR NOT u.skip)
              ORDER BY group_order LIMIT 1) m
        CROSS JOIN LATERAL (SELECT priority FROM onefold.jobs WHERE ns = 0 AND seq = m.seq OFFSET 0) j
        CROSS JOIN LATERAL (SELECT lane FROM onefold.specs WHERE ns = 0 AND seq = m.seq OFFSET 0) s
        WHERE m.phase = 1 AND (
            SELECT seq FROM onefold.members
            WHERE ns = 0 AND queue = u.queue AND grp = u.grp AND phase = 2 LIMIT 1) IS NULL
    ) h ON true
), gone AS (
    DELETE FROM onefold.ready t USING want w, LATERAL (
        SELECT ctid FROM onefold.ready
        WHERE ns = 0 AND queue = w.queue AND lane = w.ready_lane AND priority = w.ready_priority AND seq = w.ready_seq OFFSET 0) r
    WHERE t.ctid = r.ctid
      AND (w.ready_seq, w.ready_lane, w.ready_priority) IS DISTINCT FROM (w.seq, w.lane, w.priority)
), put AS (
    INSERT INTO onefold.ready (queue, lane, priority, seq, grouped)
    SELECT queue, lane, priority, seq, true FROM want WHERE seq IS NOT NULL
    ON CONFLICT DO NOTHING
)
UPDATE onefold.groups AS t SET ready_seq = w.seq, ready_lane = w.lane, ready_priority = w.priority FROM want w
WHERE t.ctid = w.at AND (w.ready_seq, w.ready_lane, w.ready_priority) IS DISTINCT FROM (w.seq, w.lane, w.priority)
