SELECT queue, name, alive, settings::text FROM onefold.queues
WHERE ns = 0 AND queue IN (SELECT queue FROM onefold.jobs WHERE ns = 0 AND seq = ANY ($1::bigint[]))
