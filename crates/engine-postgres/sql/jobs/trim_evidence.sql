-- Of each kind the first and the last are kept.
DELETE FROM onefold.evidence t
USING unnest($1::bigint[], $2::smallint[]) AS u (seq, kind),
    LATERAL (SELECT ctid FROM onefold.evidence
             WHERE ns = 0 AND seq = u.seq AND kind = u.kind AND number > $3::integer
               AND number <= (SELECT max(l.number) FROM onefold.evidence l
                              WHERE l.ns = 0 AND l.seq = u.seq AND l.kind = u.kind) - $3::integer OFFSET 0) k
WHERE t.ctid = k.ctid
