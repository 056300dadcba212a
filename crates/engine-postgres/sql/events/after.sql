SELECT last, at_ms, kinds, queues, seqs, created, reasons, attempts, about::text FROM onefold.events
WHERE ns = 0 AND last > $1::bigint ORDER BY last LIMIT $2::bigint
