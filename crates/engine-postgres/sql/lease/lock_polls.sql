-- Calls with one poll id lease one after the other, on whatever nodes. The first number tells these locks from others
-- of the database.
SELECT pg_advisory_xact_lock(1869506660, u.poll) FROM unnest($1::integer[]) WITH ORDINALITY AS u (poll, place) ORDER BY u.place
