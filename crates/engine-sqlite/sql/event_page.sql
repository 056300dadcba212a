SELECT first, count, at, events FROM onefold_events
WHERE first >= coalesce((SELECT max(first) FROM onefold_events WHERE first <= ?1 + 1), 0)
ORDER BY first LIMIT ?2
