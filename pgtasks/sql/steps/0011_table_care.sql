-- breaking: no
-- only: own

-- Most jobs have no key, and the index of keys holds them all the same, as one long list of nulls. To keep that list
-- short, each claim that puts new versions of rows into it looks through it for old ones that are dead, which took an
-- eighth of the claim's time. Without the list the index is larger.
alter index {gw}.jobs_key_key1 set (deduplicate_items = off);

-- With many jobs that wait for their time, a fifth of the table is a lot to be dead before it is vacuumed. Twentieths
-- cost least in all, and keep the indexes at a quarter of the growth: docs/decisions/0024-table-care.md.
alter table {gw}._private_jobs set (autovacuum_vacuum_scale_factor = 0.05);
