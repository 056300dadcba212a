DELETE FROM onefold.dirty t
WHERE t.ns = 0 AND t.queue = $1::integer AND (
    SELECT m.seq FROM onefold.members m WHERE m.ns = 0 AND m.queue = t.queue AND m.grp = t.grp LIMIT 1) IS NULL
