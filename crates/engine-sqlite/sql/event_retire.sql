DELETE FROM onefold_events WHERE first IN (
    SELECT first FROM (SELECT first, at FROM onefold_events ORDER BY first LIMIT ?2) WHERE at <= ?1)
