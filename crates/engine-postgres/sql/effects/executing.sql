-- Those with a lease of their own, each once: a renewal moves its row on. Whoever has one in use writes it himself.
SELECT record FROM onefold.effects
WHERE ns = 0 AND state = 0 AND seq IS NULL AND (scope, key) > ($1::text, $2::text)
ORDER BY ns, scope, key LIMIT $3::bigint FOR UPDATE SKIP LOCKED
