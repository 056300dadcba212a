SELECT seq FROM onefold_jobs WHERE seq BETWEEN ?1 AND ?2 AND (state < 5 OR finished_at IS NULL)
