INSERT OR REPLACE INTO onefold_settings (name, value, version) VALUES (?1, ?2, ?3)
