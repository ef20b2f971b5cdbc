-- What keeps vacuum from removing dead rows, of each kind the oldest: transactions and prepared ones, for $1 seconds;
-- replication slots and standbys, for $2 transactions. A last row, `hidden`, counts the sessions of which the role sees
-- nothing.
--
-- Dead rows of this database are kept by transactions in it that have a snapshot or have written, and also by those of
-- other databases that have written: the snapshots taken here do not see them as ended. Vacuum's own does not count. Of
-- a statement only its first words are shown, up to the first constant, since it may hold a payload.
with sessions as materialized (
    select activity.*
    from pg_catalog.pg_stat_activity as activity
    where activity.pid <> pg_catalog.pg_backend_pid()
),
held as (
    select
        'transaction' as kind, session.pid::text as name, session.datname as database, session.usename as role,
        session.application_name as application, session.state,
        substring(session.query from '^\s*([[:alpha:]_][[:alnum:]_.]*(?:\s+[[:alpha:]_][[:alnum:]_.]*){{0,3}})')
            as command,
        extract(epoch from clock_timestamp() - coalesce(session.xact_start, session.backend_start)) as seconds,
        greatest(age(session.backend_xid), age(session.backend_xmin)) as transactions,
        null::bigint as catalog_transactions, null::numeric as wal_bytes
    from sessions as session
    where (session.backend_xid is not null or session.backend_xmin is not null and session.datname = current_database())
        and session.backend_type not in ('autovacuum worker', 'parallel worker', 'walsender')
        and not exists (select from pg_catalog.pg_stat_progress_vacuum as progress where progress.pid = session.pid)
    union all
    select
        'prepared', prepared.gid, prepared.database, prepared.owner, null, null, null,
        extract(epoch from clock_timestamp() - prepared.prepared), age(prepared.transaction), null, null
    from pg_catalog.pg_prepared_xacts as prepared
    union all
    select
        'slot', slot.slot_name, slot.database, null, slot.plugin,
        case when slot.active then 'active' else 'inactive' end, slot.slot_type,
        extract(epoch from clock_timestamp() - (to_jsonb(slot) ->> 'inactive_since')::timestamptz), -- since release 17
        age(slot.xmin), age(slot.catalog_xmin),
        pg_catalog.pg_wal_lsn_diff(
            case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
            else pg_catalog.pg_current_wal_lsn() end,
            slot.restart_lsn
        )
    from pg_catalog.pg_replication_slots as slot
    union all
    select
        'standby', coalesce(nullif(standby.application_name, ''), standby.pid::text), null, standby.usename,
        host(standby.client_addr), standby.state, null, null, age(standby.backend_xmin), null, null
    from pg_catalog.pg_stat_replication as standby
    where standby.backend_xmin is not null
),
ranked as (
    select
        held.*,
        count(*) over of_kind as total,
        row_number() over (of_kind order by greatest(held.transactions, held.catalog_transactions) desc, held.name)
            as rank
    from held
    where case when held.kind in ('transaction', 'prepared') then held.seconds >= $1::double precision
        else greatest(held.transactions, held.catalog_transactions) >= $2::integer end
    window of_kind as (partition by held.kind)
)
select
    kind, name, database, role, application, state, command, seconds::double precision, transactions,
    catalog_transactions, wal_bytes::bigint, total
from ranked
where rank <= $3::integer
union all
select 'hidden', null, null, current_user, null, null, null, null, null, null, null, count(*)
from sessions as session
where session.query = '<insufficient privilege>' and session.usesysid is not null
having count(*) > 0
