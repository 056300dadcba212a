SELECT nextval('onefold.job_seq') FROM generate_series(1, $1::integer)
