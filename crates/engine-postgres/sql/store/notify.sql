-- Only if another node serves the store: to notify is a transaction with a number of its own.
SELECT pg_notify($1::text, $2::text)
WHERE EXISTS (SELECT FROM onefold.nodes
              WHERE ns = 0 AND node <> $3::text AND seen_at > clock_timestamp() - interval '10 seconds')
