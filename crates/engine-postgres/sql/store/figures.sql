SELECT greatest((SELECT sum(reltuples) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
                 WHERE i.inhparent = 'onefold.keys'::regclass), 0)::bigint,
       pg_database_size(current_database())::bigint
