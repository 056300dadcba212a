SELECT id, template, schedule, crc FROM onefold_schedules WHERE ns = 0 AND id > ?1 ORDER BY id LIMIT ?2
