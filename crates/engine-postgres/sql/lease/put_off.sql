UPDATE onefold.leases SET check_ms = $2::bigint WHERE ctid = ANY (ARRAY(
    SELECT k.ctid FROM unnest($1::bigint[]) AS u (seq),
        LATERAL (SELECT ctid FROM onefold.leases WHERE ns = 0 AND seq = u.seq OFFSET 0) k))
