SELECT state FROM onefold_jobs WHERE seq = ?1 AND created_at = ?2
