-- Waits for those who lease, and not for who only reads: pg_dump does that for hours.
LOCK TABLE onefold.store IN EXCLUSIVE MODE
