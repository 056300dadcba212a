SELECT current_setting('server_version'),
       floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       pg_has_role('pg_read_all_stats', 'USAGE'),
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename = current_user),
       (SELECT max(age(datfrozenxid)) FROM pg_database WHERE datallowconn)::bigint
