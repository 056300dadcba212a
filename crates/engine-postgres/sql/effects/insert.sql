INSERT INTO onefold.effects (scope, key, seq, state, due_ms, record, result)
SELECT scope, key, seq, state, due_ms, record, result
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::bigint[], $6::text[], $7::bytea[])
    AS u (scope, key, seq, state, due_ms, record, result)
ON CONFLICT DO NOTHING
