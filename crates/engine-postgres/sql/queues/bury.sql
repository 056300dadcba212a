-- Unless it has jobs again.
UPDATE onefold.queues SET settings = '{}',
    alive = (SELECT true FROM onefold.count_deltas WHERE ns = 0 AND queue = $1::integer AND accepted > 0 LIMIT 1) IS NOT NULL
WHERE ns = 0 AND queue = $1::integer
