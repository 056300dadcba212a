DELETE FROM onefold.effects WHERE ctid = ANY (ARRAY(
    SELECT k.ctid FROM unnest($1::bigint[]) AS u (seq),
        LATERAL (SELECT ctid FROM onefold.effects WHERE seq = u.seq OFFSET 0) k))
