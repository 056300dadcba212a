UPDATE onefold.effects AS t
SET state = u.state, due_ms = u.due_ms, record = u.record, result = CASE WHEN u.changed THEN u.result ELSE t.result END
FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::text[], $6::bytea[], $7::boolean[])
    AS u (scope, key, state, due_ms, record, result, changed),
    LATERAL (SELECT ctid FROM onefold.effects WHERE ns = 0 AND scope = u.scope AND key = u.key OFFSET 0) k
WHERE t.ctid = k.ctid
