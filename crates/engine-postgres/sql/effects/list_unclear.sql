SELECT record FROM onefold.effects WHERE state = 3 AND ns = 0 AND (scope, key) > ($1::text, $2::text)
ORDER BY ns, scope, key LIMIT $3::bigint
