UPDATE onefold.queues SET settings = $2::text::json WHERE ns = 0 AND queue = $1::integer
