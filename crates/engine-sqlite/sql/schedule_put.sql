INSERT INTO onefold_schedules (id, template, next_at, tz, schedule, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (ns, id) DO UPDATE SET template = excluded.template, next_at = excluded.next_at, tz = excluded.tz, schedule = excluded.schedule, crc = excluded.crc
