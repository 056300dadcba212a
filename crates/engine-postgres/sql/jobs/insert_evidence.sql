-- A number is given by whoever counts that kind in the job's row; else it is the next. Holders of the job's row lock only.
INSERT INTO onefold.evidence (seq, kind, number, at_ms, note)
SELECT u.seq, u.kind, coalesce(u.number,
    (SELECT max(e.number) FROM onefold.evidence e WHERE e.ns = 0 AND e.seq = u.seq AND e.kind = u.kind), 0)
    + CASE WHEN u.number IS NULL THEN row_number() OVER (PARTITION BY u.seq, u.kind, u.number IS NULL ORDER BY u.place)
      ELSE 0 END, u.at_ms, u.note
FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::bigint[], $5::text[])
    WITH ORDINALITY AS u (seq, kind, number, at_ms, note, place)
