-- The heads of six indexes.
SELECT least((SELECT due_ms FROM onefold.timers WHERE ns = 0 ORDER BY due_ms LIMIT 1),
             (SELECT check_ms FROM onefold.leases ORDER BY check_ms LIMIT 1),
             (SELECT check_ms FROM onefold.watches WHERE ns = 0 AND check_ms > $2::bigint ORDER BY check_ms LIMIT 1),
             (SELECT due_ms FROM onefold.effects WHERE due_ms IS NOT NULL ORDER BY due_ms LIMIT 1),
             (SELECT next_ms FROM onefold.schedules WHERE next_ms IS NOT NULL ORDER BY next_ms LIMIT 1),
             (SELECT full_until_ms FROM onefold.rates WHERE full_until_ms > $1::bigint ORDER BY full_until_ms LIMIT 1))
