DELETE FROM onefold_timers WHERE seq = ?1
