SELECT min(first) FROM onefold_events
