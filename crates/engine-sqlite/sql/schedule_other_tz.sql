SELECT id FROM onefold_schedules WHERE tz <> ?1 AND id > ?2 ORDER BY id LIMIT ?3
