INSERT INTO onefold_effects (scope, key, job, state, due, record, crc, result, result_crc)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT DO UPDATE SET job = ?3, state = ?4, due = ?5, record = ?6, crc = ?7, result = ?8, result_crc = ?9
