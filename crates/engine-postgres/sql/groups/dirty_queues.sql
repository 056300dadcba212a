-- Queues with groups to look at, as far as the first of those tell.
SELECT DISTINCT d.queue FROM (SELECT queue FROM onefold.dirty WHERE ns = 0 ORDER BY queue, id LIMIT 1000) d
