-- breaking: no

-- Names of tasks and queues that were deleted, by whomever: a job may have been on its way in, see
-- _pgtasks_restore_names.
create table {gw}._pgtasks_forgotten_names (
  kind text not null,
  id integer not null,
  name text not null,
  ts timestamptz not null default clock_timestamp(),
  primary key (kind, id)
);
create index _pgtasks_forgotten_names_ts_idx on {gw}._pgtasks_forgotten_names (ts);

-- The file in functions/ takes its place.
create function {gw}._pgtasks_remember_names()
returns trigger
language plpgsql
as $pgtasks$ begin return null; end $pgtasks$;

create trigger _pgtasks_remember_tasks
  after delete on {gw}._private_tasks
  referencing old table as deleted
  for each statement execute function {gw}._pgtasks_remember_names('task', 'identifier');
create trigger _pgtasks_remember_queues
  after delete on {gw}._private_job_queues
  referencing old table as deleted
  for each statement execute function {gw}._pgtasks_remember_names('queue', 'queue_name');
