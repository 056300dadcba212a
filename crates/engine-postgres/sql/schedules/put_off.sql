UPDATE onefold.schedules SET next_ms = $2::bigint WHERE ns = 0 AND id = $1::text
