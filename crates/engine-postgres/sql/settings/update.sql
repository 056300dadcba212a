UPDATE onefold.settings SET value = $2::bytea, version = version + 1 WHERE ns = 0 AND name = $1::text AND version = $3::bigint
