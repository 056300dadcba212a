-- Which life of which server this is: another one may have lost what the token sequence last said. The look for rows to
-- lock finds none, but holds the table in ROW SHARE mode until the end of the transaction.
SELECT concat_ws('/', (SELECT oid FROM pg_database WHERE datname = current_database()),
       left(pg_walfile_name(pg_current_wal_lsn()), 8), extract(epoch FROM pg_postmaster_start_time())),
       (SELECT server FROM onefold.store), (SELECT one FROM onefold.store WHERE NOT one FOR KEY SHARE)
