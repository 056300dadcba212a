SELECT setval('onefold.token_seq', $1::bigint, false)
