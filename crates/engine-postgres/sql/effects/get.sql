SELECT record, result FROM onefold.effects WHERE ns = 0 AND scope = $1::text AND key = $2::text
