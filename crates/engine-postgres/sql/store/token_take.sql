SELECT nextval('onefold.token_seq') FROM generate_series(1, $1::integer)
