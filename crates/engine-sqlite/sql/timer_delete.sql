DELETE FROM onefold_timers WHERE bucket = ?1 AND seq = ?2
