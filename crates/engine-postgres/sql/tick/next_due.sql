-- The heads of three indexes.
SELECT least((SELECT due_ms FROM onefold.timers WHERE ns = 0 ORDER BY due_ms LIMIT 1),
             (SELECT check_ms FROM onefold.leases ORDER BY check_ms LIMIT 1),
             (SELECT check_ms FROM onefold.watches WHERE ns = 0 ORDER BY check_ms LIMIT 1))
