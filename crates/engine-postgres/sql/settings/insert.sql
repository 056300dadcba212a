INSERT INTO onefold.settings (name, value, version) VALUES ($1::text, $2::bytea, 1) ON CONFLICT DO NOTHING
