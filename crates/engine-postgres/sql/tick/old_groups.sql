-- Groups without jobs. Whoever waits for the lock of a deleted one makes it again.
DELETE FROM onefold.groups t USING
    (SELECT g.queue, g.grp FROM onefold.groups g
     WHERE g.ns = 0 AND g.ready_seq IS NULL AND NOT EXISTS (
         SELECT 1 FROM onefold.members m WHERE m.ns = 0 AND m.queue = g.queue AND m.grp = g.grp)
     LIMIT $1::bigint FOR UPDATE SKIP LOCKED) AS u
WHERE t.ns = 0 AND t.queue = u.queue AND t.grp = u.grp
