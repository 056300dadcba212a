-- No row: a newer attempt has been here. Else replays is 0 for whoever is to do it.
INSERT INTO onefold_inbox AS i (job, step, token, result)
SELECT $1::text, $2::text, $3::bigint, $4::text
WHERE NOT EXISTS (SELECT FROM onefold_inbox AS newer WHERE newer.job = $1::text AND newer.token > $3::bigint)
ON CONFLICT (job, step) DO UPDATE SET token = excluded.token, replays = i.replays + 1 WHERE i.token <= excluded.token
RETURNING replays, result
