INSERT INTO onefold_events (first, count, at, events) VALUES (?1, ?2, ?3, ?4)
