DELETE FROM onefold.nodes WHERE ns = 0 AND seen_at < clock_timestamp() - interval '1 day'
