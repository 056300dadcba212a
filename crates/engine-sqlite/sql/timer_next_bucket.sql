SELECT min(bucket) FROM onefold_timers WHERE bucket > ?1
