SELECT first, count, at, events FROM onefold_events WHERE first > ?1 - 65536 AND first + count > ?1 + 1 ORDER BY first LIMIT ?2
