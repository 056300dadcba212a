-- With the time at which each was had: whoever had it before was at it earlier.
WITH locked AS (SELECT queue FROM onefold.queues WHERE ns = 0 AND queue = ANY ($1::integer[]) ORDER BY queue FOR NO KEY UPDATE)
SELECT queue, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM locked
