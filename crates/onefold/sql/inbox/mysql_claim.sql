-- 1 row affected: to be done. 2: done before. 0: a newer attempt has been here.
-- The order of the assignments counts: replays is decided by the token that stood there.
INSERT INTO onefold_inbox (job, step, token, result)
VALUES (?, ?, ?, ?)
ON DUPLICATE KEY UPDATE replays = replays + (token <= VALUES(token)), token = GREATEST(token, VALUES(token))
