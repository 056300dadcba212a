-- Groups without jobs. Whoever waits for the lock of a deleted one makes it again.
DELETE FROM onefold.groups WHERE ctid = ANY (ARRAY(
    SELECT g.ctid FROM onefold.groups g
    WHERE g.ns = 0 AND g.ready_seq IS NULL AND (
        SELECT m.seq FROM onefold.members m WHERE m.ns = 0 AND m.queue = g.queue AND m.grp = g.grp LIMIT 1) IS NULL
    LIMIT $1::bigint FOR UPDATE SKIP LOCKED))
