UPDATE onefold.queues SET alive = false, settings = '{}' WHERE ns = 0 AND queue = $1::integer
