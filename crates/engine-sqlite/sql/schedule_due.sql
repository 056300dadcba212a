SELECT id FROM onefold_schedules WHERE next_at <= ?1 ORDER BY next_at, id LIMIT ?2
