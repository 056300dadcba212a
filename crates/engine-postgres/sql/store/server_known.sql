UPDATE onefold.store SET server = $1::text WHERE server <> $1::text
