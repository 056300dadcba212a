SELECT id, next_at FROM onefold_schedules WHERE next_at IS NOT NULL ORDER BY next_at LIMIT ?1
