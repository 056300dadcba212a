DELETE FROM onefold_schedules WHERE ns = 0 AND id = ?1
