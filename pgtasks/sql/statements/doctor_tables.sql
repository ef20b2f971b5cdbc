-- The tables of the queue, and the TOAST tables of their long values, as the statistics know them. What a table's rows
-- need is an estimate: their number, by the statistics, times their average width, by those that `analyze` has taken.
with relation as (
    select
        class.oid, format('%I.%I', schema.nspname, class.relname) as name, class.oid as table_oid, false as toast,
        class.reloptions, class.relfrozenxid, class.reltuples
    from pg_catalog.pg_class as class join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
    where schema.nspname = {gw_text} and class.relkind = 'r'
    union all
    select
        toast.oid, format('%I.%I', schema.nspname, class.relname), class.oid, true, toast.reloptions,
        toast.relfrozenxid, toast.reltuples
    from
        pg_catalog.pg_class as class
        join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
        join pg_catalog.pg_class as toast on toast.oid = class.reltoastrelid
    where schema.nspname = {gw_text} and class.relkind = 'r'
),
counted as (
    select
        relation.*,
        pg_catalog.pg_stat_get_live_tuples(relation.oid) as live,
        pg_catalog.pg_stat_get_dead_tuples(relation.oid) as dead,
        greatest(
            pg_catalog.pg_stat_get_last_vacuum_time(relation.oid),
            pg_catalog.pg_stat_get_last_autovacuum_time(relation.oid)
        ) as vacuumed_at,
        pg_catalog.pg_relation_size(relation.oid) as bytes
    from relation
)
select
    counted.name, counted.toast, counted.live, counted.dead,
    extract(epoch from clock_timestamp() - counted.vacuumed_at)::double precision,
    exists (select from pg_catalog.pg_stat_progress_vacuum as progress where progress.relid = counted.oid),
    coalesce(
        (
            select option.option_value::boolean
            from pg_catalog.pg_options_to_table(counted.reloptions) as option
            where option.option_name = 'autovacuum_enabled'
        ),
        true
    ),
    age(counted.relfrozenxid), counted.bytes,
    case when not counted.toast then (
        greatest(counted.live + counted.dead, counted.reltuples) * (28 + coalesce(width.bytes, 256))
    )::bigint end,
    current_setting('autovacuum_freeze_max_age')::integer
from
    counted
    cross join lateral (
        select sum(stats.avg_width * (1 - stats.null_frac)) as bytes
        from
            pg_catalog.pg_class as class
            join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
            join pg_catalog.pg_stats as stats on stats.schemaname = schema.nspname and stats.tablename = class.relname
        where class.oid = counted.table_oid
    ) as width
order by counted.name, counted.toast
