-- Lines of deliveries with somebody in them, behind a place, passing by the lanes given: from one line to the next, a
-- bounded number of steps. The last line is where it stopped.
WITH RECURSIVE lines AS (
    SELECT $1::integer AS queue, $2::integer AS lane, 0 AS looked, 0 AS found, false AS wanted
    UNION ALL
    SELECT n.queue, n.lane, l.looked + 1, l.found + n.wanted::integer, n.wanted
    FROM lines l, LATERAL (
        SELECT least(
            (SELECT queue::bigint << 32 | lane FROM onefold.ready
             WHERE ns = 0 AND (queue, lane) > (l.queue, l.lane) ORDER BY queue, lane LIMIT 1),
            (SELECT queue::bigint << 32 | lane FROM onefold.segments
             WHERE ns = 0 AND (queue, lane) > (l.queue, l.lane) ORDER BY queue, lane LIMIT 1)) AS at
    ) b, LATERAL (
        SELECT (b.at >> 32)::integer AS queue, (b.at & 4294967295)::integer AS lane,
            b.at & 4294967295 > 0 AND (b.at & 4294967295)::integer <> ALL ($3::integer[]) AS wanted
    ) n
    WHERE b.at IS NOT NULL AND l.looked < $5::integer AND l.found < $4::integer
)
SELECT queue, lane, wanted FROM lines WHERE looked > 0 ORDER BY looked
