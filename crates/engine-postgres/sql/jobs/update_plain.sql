UPDATE onefold.jobs SET plain = false WHERE plain AND ctid = ANY (ARRAY(
    SELECT k.ctid FROM unnest($1::bigint[]) AS u (seq),
        LATERAL (SELECT ctid FROM onefold.jobs WHERE ns = 0 AND seq = u.seq OFFSET 0) k))
