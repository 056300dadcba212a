INSERT INTO onefold.keys (queue, space, key, seq, created_ms, fingerprint, until_ms, free_on)
SELECT queue, space, key, seq, created_ms, fingerprint, until_ms, free_on
FROM unnest($1::integer[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[],
    $8::smallint[]) AS u (queue, space, key, seq, created_ms, fingerprint, until_ms, free_on)
ON CONFLICT DO NOTHING
