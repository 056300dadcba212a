SELECT record FROM onefold.effects WHERE seq = $1::bigint ORDER BY key, scope LIMIT $2::bigint
