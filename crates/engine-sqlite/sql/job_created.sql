SELECT created_at FROM onefold_jobs WHERE seq = ?1
