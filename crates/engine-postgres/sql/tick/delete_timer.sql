DELETE FROM onefold.timers t USING unnest($1::bigint[], $2::bigint[]) AS u (due_ms, seq),
    LATERAL (SELECT ctid FROM onefold.timers WHERE ns = 0 AND due_ms = u.due_ms AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
