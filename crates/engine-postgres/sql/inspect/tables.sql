-- Sizes in bytes. What a table would need at the least is estimated from its rows and their widths as the planner knows them,
-- with a header of 28 bytes each and the room it keeps free in its pages.
SELECT c.relname::text, greatest(s.n_live_tup, 0)::bigint, greatest(s.n_dead_tup, 0)::bigint,
       pg_relation_size(c.oid)::bigint, pg_indexes_size(c.oid)::bigint,
       extract(epoch FROM clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::bigint,
       (greatest(c.reltuples, 0) * (28 + coalesce((SELECT sum(w.avg_width) FROM pg_stats w
            WHERE w.schemaname = n.nspname AND w.tablename = c.relname), 0)) * 100 / coalesce((SELECT split_part(o, '=', 2)::integer
            FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%'), 100))::bigint,
       EXISTS (SELECT FROM pg_stats w WHERE w.schemaname = n.nspname AND w.tablename = c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE n.nspname = $1 AND c.relkind = 'r'
ORDER BY pg_total_relation_size(c.oid) DESC, c.relname
