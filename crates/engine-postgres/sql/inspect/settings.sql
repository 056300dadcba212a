SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts', 'statement_timeout',
    'transaction_timeout', 'idle_in_transaction_session_timeout', 'default_transaction_isolation',
    'max_prepared_transactions', 'hot_standby_feedback', 'old_snapshot_threshold')
