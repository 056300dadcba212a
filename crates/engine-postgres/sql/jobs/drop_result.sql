DELETE FROM onefold.results WHERE ctid = ANY (ARRAY(
    SELECT k.ctid FROM unnest($1::bigint[]) AS u (seq),
        LATERAL (SELECT ctid FROM onefold.results WHERE ns = 0 AND seq = u.seq OFFSET 0) k))
