-- Queues in which something started later than now: the clock was set back.
SELECT queue FROM onefold.rates WHERE last_ms > $1::bigint
