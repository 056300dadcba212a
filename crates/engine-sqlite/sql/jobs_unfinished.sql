SELECT seq, created_at, state FROM onefold_jobs WHERE seq BETWEEN ?1 AND ?2 AND state < 5
