UPDATE onefold.keys AS t
SET seq = u.seq, created_ms = u.created_ms, fingerprint = u.fingerprint, until_ms = u.until_ms, free_on = u.free_on
FROM unnest($1::integer[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[],
    $8::smallint[]) AS u (queue, space, key, seq, created_ms, fingerprint, until_ms, free_on),
    LATERAL (SELECT tableoid, ctid FROM onefold.keys
             WHERE ns = 0 AND queue = u.queue AND space = u.space AND key = u.key OFFSET 0) k
WHERE t.tableoid = k.tableoid AND t.ctid = k.ctid
