SELECT record FROM onefold.effects WHERE ns = 0 AND (scope, key) > ($1::text, $2::text)
ORDER BY ns, scope, key LIMIT $3::bigint
