-- Of each kind the first and the last are kept.
DELETE FROM onefold.evidence e
USING (SELECT u.seq, u.kind, (SELECT max(l.number) FROM onefold.evidence l
                              WHERE l.ns = 0 AND l.seq = u.seq AND l.kind = u.kind) AS latest
       FROM unnest($1::bigint[], $2::smallint[]) AS u (seq, kind)) AS k
WHERE e.ns = 0 AND e.seq = k.seq AND e.kind = k.kind
  AND e.number > $3::integer AND e.number <= k.latest - $3::integer
