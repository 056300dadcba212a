-- No row: a newer attempt has been here. Else replays is 0 for whoever is to do it.
INSERT INTO onefold_inbox AS i (job, step, token, result)
SELECT ?1, ?2, ?3, ?4
WHERE NOT EXISTS (SELECT 1 FROM onefold_inbox AS newer WHERE newer.job = ?1 AND newer.token > ?3)
ON CONFLICT (job, step) DO UPDATE SET token = excluded.token, replays = i.replays + 1 WHERE i.token <= excluded.token
RETURNING replays, result
