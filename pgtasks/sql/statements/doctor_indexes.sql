-- All indexes on tables of the queue. What an index needs is an estimate from above: an entry for each row of the
-- table, dead ones included, though it may be for some of them only.
select
    class.relname, index_class.relname, format('%I.%I', schema.nspname, class.relname),
    format('%I.%I', schema.nspname, index_class.relname), pg_catalog.pg_get_indexdef(index.indexrelid),
    index.indisvalid, index.indisready, index.indislive,
    exists (
        select from pg_catalog.pg_stat_progress_create_index as progress
        where progress.index_relid = index.indexrelid
    ),
    exists (select from pg_catalog.pg_constraint as owner where owner.conindid = index.indexrelid),
    pg_catalog.pg_relation_size(index.indexrelid),
    (
        greatest(
            pg_catalog.pg_stat_get_live_tuples(class.oid) + pg_catalog.pg_stat_get_dead_tuples(class.oid),
            class.reltuples
        ) * (12 + width.bytes) / 0.9
    )::bigint
from
    pg_catalog.pg_index as index
    join pg_catalog.pg_class as class on class.oid = index.indrelid
    join pg_catalog.pg_class as index_class on index_class.oid = index.indexrelid
    join pg_catalog.pg_namespace as schema on schema.oid = class.relnamespace
    cross join lateral (
        select sum(case when attribute.attlen > 0 then attribute.attlen else coalesce(stats.avg_width, 32) end) as bytes
        from
            pg_catalog.pg_attribute as attribute
            left join pg_catalog.pg_stats as stats
                on stats.schemaname = schema.nspname and stats.tablename = class.relname
                and stats.attname = attribute.attname
        where attribute.attrelid = index.indexrelid
    ) as width
where
    schema.nspname = {gw_text} and class.relkind = 'r'
order by class.relname, index_class.relname
