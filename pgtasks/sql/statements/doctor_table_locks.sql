-- Sessions, and prepared transactions, that hold a lock on a table of the queue beside which nobody can add, claim or
-- finish jobs, or that wait for one, so that everybody else waits behind them; if their transaction is so many seconds
-- old ($1), the oldest first. How old a prepared one is does not matter: it was left behind.
select
    class.relname, lock.mode, lock.granted, lock.pid, session.usename, session.application_name, session.state,
    substring(session.query from '^\s*([[:alpha:]_][[:alnum:]_.]*(?:\s+[[:alpha:]_][[:alnum:]_.]*){{0,3}})'),
    age.seconds::double precision,
    (
        select count(*)
        from pg_catalog.pg_locks as waiting
        where waiting.locktype = 'relation' and waiting.database = lock.database and waiting.relation = lock.relation
            and not waiting.granted and waiting.pid <> lock.pid
    ),
    case when not lock.granted then pg_catalog.pg_blocking_pids(lock.pid) end
from
    pg_catalog.pg_locks as lock
    join pg_catalog.pg_class as class on class.oid = lock.relation
    join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
    left join pg_catalog.pg_index as index on index.indexrelid = class.oid
    join pg_catalog.pg_class as owner on owner.oid = coalesce(index.indrelid, class.oid)
    left join pg_catalog.pg_stat_activity as session on session.pid = lock.pid
    cross join lateral (select extract(epoch from clock_timestamp() - session.xact_start) as seconds) as age
where
    lock.locktype = 'relation'
    and lock.database = (select oid from pg_catalog.pg_database where datname = current_database())
    and lock.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and lock.pid is distinct from pg_catalog.pg_backend_pid()
    and schema.nspname = {gw_text} and class.relkind in ('r', 'i')
    and owner.relname not in ('_private_known_crontabs', 'migrations', '_pgtasks_migrations')  -- no job needs these
    and (lock.pid is null or coalesce(age.seconds, 0) >= $1::double precision)
order by lock.granted desc, age.seconds desc nulls first, class.relname
limit $2::integer
