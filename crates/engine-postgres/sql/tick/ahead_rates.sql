-- Queues in which something started later than now: the clock was set back.
SELECT queue FROM onefold.rates WHERE ns = 0 AND last_ms > $1::bigint
