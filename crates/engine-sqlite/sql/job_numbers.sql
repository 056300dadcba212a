SELECT seq, queue, state FROM onefold_jobs WHERE seq > ?1 ORDER BY seq LIMIT ?2
