-- What counts of a queue whose jobs were deleted: those that came meanwhile. In one statement, which sees a job together
-- with what was counted of it or neither.
WITH folded AS (DELETE FROM onefold.counts WHERE ns = 0 AND queue = $1::integer),
     deltas AS (DELETE FROM onefold.count_deltas WHERE ns = 0 AND queue = $1::integer)
INSERT INTO onefold.count_deltas (queue, accepted, scheduled, available, running, retrying, completed, dead, cancelled,
    purged_retention, purged_deleted, duplicates, mismatches, late_writes)
SELECT $1::integer, count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
    count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4),
    count(*) FILTER (WHERE state = 5), count(*) FILTER (WHERE state = 6), 0, 0, 0, 0, 0
FROM onefold.jobs WHERE ns = 0 AND queue = $1::integer HAVING count(*) > 0
