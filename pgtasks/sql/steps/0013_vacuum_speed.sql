-- breaking: no
-- only: own

-- With the pauses that autovacuum makes by default, it does not keep up with tens of thousands of jobs a second, and the
-- table grows for as long as it is behind: docs/decisions/0024-table-care.md.
alter table {gw}._private_jobs set (autovacuum_vacuum_cost_delay = 0);
