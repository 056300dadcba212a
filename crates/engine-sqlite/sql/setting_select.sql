SELECT value, version FROM onefold_settings WHERE name = ?1
