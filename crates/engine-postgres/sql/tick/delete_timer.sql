DELETE FROM onefold.timers t USING unnest($1::bigint[], $2::bigint[]) AS u (due_ms, seq)
WHERE t.ns = 0 AND t.due_ms = u.due_ms AND t.seq = u.seq
