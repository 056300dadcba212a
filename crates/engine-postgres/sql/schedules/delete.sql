DELETE FROM onefold.schedules WHERE ns = 0 AND id = $1::text
