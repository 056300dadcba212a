INSERT INTO onefold.results (seq, result)
SELECT u.seq, u.result
FROM unnest($1::bigint[], $2::bytea[])
    AS u (seq, result)
ON CONFLICT (ns, seq) DO UPDATE SET result = excluded.result
