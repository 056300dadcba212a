-- In the order given, which is that of everybody.
SELECT e.record, e.result FROM unnest($1::text[], $2::text[]) AS u (scope, key),
    LATERAL (SELECT record, result FROM onefold.effects
             WHERE ns = 0 AND scope = u.scope AND key = u.key FOR UPDATE) e
