SELECT least((SELECT min(due_ms) FROM onefold.timers WHERE ns = 0),
             (SELECT min(check_ms) FROM onefold.leases WHERE ns = 0),
             (SELECT min(check_ms) FROM onefold.watches WHERE ns = 0))
