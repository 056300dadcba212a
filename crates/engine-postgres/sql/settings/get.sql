SELECT value, version FROM onefold.settings WHERE ns = 0 AND name = $1::text
