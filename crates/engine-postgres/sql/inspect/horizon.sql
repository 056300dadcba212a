-- Who holds back what may be cleaned up: sessions, replication slots, prepared transactions, standbys with feedback.
SELECT kind, pid, name, state, coalesce(seconds, 0)::bigint, age(held)::bigint
FROM (SELECT 0 AS kind, pid, application_name AS name, state,
             extract(epoch FROM clock_timestamp() - xact_start) AS seconds, coalesce(backend_xmin, backend_xid) AS held
      FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
      UNION ALL
      SELECT 1, active_pid, slot_name, CASE WHEN active THEN 'active' ELSE 'unused' END, NULL,
             CASE WHEN age(xmin) > coalesce(age(catalog_xmin), -1) THEN xmin ELSE catalog_xmin END
      FROM pg_replication_slots
      UNION ALL
      SELECT 2, NULL, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared), transaction FROM pg_prepared_xacts
      UNION ALL
      SELECT 3, pid, application_name, state, NULL, backend_xmin FROM pg_stat_replication) holders
WHERE held IS NOT NULL OR kind = 2
ORDER BY age(held) DESC NULLS LAST, seconds DESC NULLS LAST
LIMIT 5
