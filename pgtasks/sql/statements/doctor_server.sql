-- What the server is set to, as far as a queue suffers from it, and what it has left.
select
    pg_catalog.pg_is_in_recovery(),
    -- Not transaction_read_only, which says only that the doctor changes nothing.
    current_setting('default_transaction_read_only')::boolean,
    current_setting('autovacuum')::boolean, current_setting('track_counts')::boolean,
    current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
    current_setting('synchronous_commit'),
    current_setting('max_connections')::integer,
    current_setting('superuser_reserved_connections')::integer
        + coalesce(current_setting('reserved_connections', true)::integer, 0), -- since release 16
    (
        select count(*)
        from pg_catalog.pg_stat_activity as session
        -- Of sessions that the role may not see the type is not told.
        where session.datid is not null and coalesce(session.backend_type, 'client backend') = 'client backend'
    ),
    pg_catalog.pg_notification_queue_usage(),
    current_setting('autovacuum_freeze_max_age')::integer,
    oldest.datname, age(oldest.datfrozenxid)
from (
    select datname, datfrozenxid from pg_catalog.pg_database order by age(datfrozenxid) desc limit 1
) as oldest
