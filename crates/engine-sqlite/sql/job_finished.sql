SELECT created_at, queue, state, coalesce(a_ended_at, 0), group_order FROM onefold_jobs WHERE seq = ?1
