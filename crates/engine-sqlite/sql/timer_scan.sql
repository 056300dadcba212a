SELECT seq, at FROM onefold_timers WHERE bucket BETWEEN ?1 AND ?2
