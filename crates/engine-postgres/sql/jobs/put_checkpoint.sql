INSERT INTO onefold.checkpoints (seq, value)
SELECT u.seq, u.value
FROM unnest($1::bigint[], $2::bytea[])
    AS u (seq, value)
ON CONFLICT (ns, seq) DO UPDATE SET value = excluded.value
