UPDATE onefold.effects AS t SET due_ms = $3::bigint FROM unnest($1::text[], $2::text[]) AS u (scope, key),
    LATERAL (SELECT ctid FROM onefold.effects WHERE ns = 0 AND scope = u.scope AND key = u.key OFFSET 0) k
WHERE t.ctid = k.ctid
