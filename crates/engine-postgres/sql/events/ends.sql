SELECT (SELECT last - cardinality(kinds) + 1 FROM onefold.events WHERE ns = 0 ORDER BY last LIMIT 1),
       (SELECT last FROM onefold.event_head WHERE ns = 0)
