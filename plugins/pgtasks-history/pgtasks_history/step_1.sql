-- A long transaction that has added a job would keep this waiting for its lock on the jobs, and everybody else behind it.
set local lock_timeout = '10s';

create table {schema}._pgtasks_history_jobs (
  id bigint generated always as identity,
  job_id bigint not null,
  created_at timestamptz not null,
  run_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz not null default now(),
  attempts smallint not null,
  max_attempts smallint not null,
  priority smallint not null,
  outcome text not null,
  -- null if it had been forgotten by then
  task text,
  queue text,
  key text,
  worker text,
  error text,
  flags jsonb,
  payload json,
  -- Retention and pages go along it. An id alone would leave `since` without an index.
  primary key (finished_at, id)
);
create index _pgtasks_history_jobs_job on {schema}._pgtasks_history_jobs (job_id);
create index _pgtasks_history_jobs_task on {schema}._pgtasks_history_jobs (task, finished_at, id);
create index _pgtasks_history_jobs_trouble on {schema}._pgtasks_history_jobs (outcome, finished_at, id)
  where outcome <> 'succeeded';

-- One row.
create table {schema}._pgtasks_history_settings (
  only_row boolean primary key default true check (only_row),
  payload boolean not null default false
);
insert into {schema}._pgtasks_history_settings default values;

-- Records deleted jobs. Those of a worker have succeeded or were cancelled; others were removed, unless they had failed for
-- good before, which was recorded then.
--
-- With the owner's rights, since whoever may end jobs need not have any on the history. No sequential scan, since the plan
-- is kept, and names are looked up one by one in tables that may grow.
create function {schema}._pgtasks_history_record_deleted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $history$
declare
  v_cancelled jsonb := nullif(current_setting('pgtasks.cancelled', true), '');
begin
  insert into {schema}._pgtasks_history_jobs (
    job_id, created_at, run_at, started_at, attempts, max_attempts, priority, outcome, task, queue, key, worker, error,
    flags, payload
  )
  select
    gone.id,
    gone.created_at,
    gone.run_at,
    gone.locked_at,
    gone.attempts,
    gone.max_attempts,
    gone.priority,
    case
      when gone.locked_at is null then 'removed'
      when v_cancelled ? gone.id::text then 'cancelled'
      else 'succeeded'
    end,
    (select tasks.identifier from {schema}._private_tasks as tasks where tasks.id = gone.task_id),
    (select queues.queue_name from {schema}._private_job_queues as queues where queues.id = gone.job_queue_id),
    gone.key,
    gone.locked_by,
    coalesce(v_cancelled ->> gone.id::text, gone.last_error),
    gone.flags,
    case when (select settings.payload from {schema}._pgtasks_history_settings as settings) then gone.payload end
  from gone
  where gone.locked_at is not null or gone.attempts < gone.max_attempts;
  return null;
end;
$history$;

-- Records a job that is not going to run again, see the trigger's condition. One that changed while it was locked, and has
-- neither key nor attempts left, was replaced or removed while it ran.
create function {schema}._pgtasks_history_record_failed()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $history$
begin
  insert into {schema}._pgtasks_history_jobs (
    job_id, created_at, run_at, started_at, attempts, max_attempts, priority, outcome, task, queue, key, worker, error,
    flags, payload
  )
  values (
    new.id,
    new.created_at,
    old.run_at,
    old.locked_at,
    -- To fail a job for good sets attempts to max_attempts.
    old.attempts,
    new.max_attempts,
    new.priority,
    case
      when old.locked_at < old.updated_at and old.key is null and old.attempts >= old.max_attempts then 'superseded'
      else 'failed'
    end,
    (select tasks.identifier from {schema}._private_tasks as tasks where tasks.id = new.task_id),
    (select queues.queue_name from {schema}._private_job_queues as queues where queues.id = new.job_queue_id),
    new.key,
    old.locked_by,
    new.last_error,
    new.flags,
    case when (select settings.payload from {schema}._pgtasks_history_settings as settings) then new.payload end
  );
  return null;
end;
$history$;

-- Deletes up to `jobs` of those that finished longer ago than `keep`, oldest first, and returns how many; null if another
-- session is at it, which holds the row of the settings.
create function {schema}._pgtasks_history_prune(keep interval, jobs integer)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_sort = off
as $history$
declare
  v_deleted integer;
begin
  if not exists (
    select
    from {schema}._pgtasks_history_jobs as history
    where history.finished_at < now() - _pgtasks_history_prune.keep
  ) then
    return 0;
  end if;
  perform from {schema}._pgtasks_history_settings for update skip locked;
  if not found then
    return null;
  end if;
  delete from {schema}._pgtasks_history_jobs as history
  where history.ctid = any (
    array(
      select expired.ctid
      from {schema}._pgtasks_history_jobs as expired
      where expired.finished_at < now() - _pgtasks_history_prune.keep
      order by expired.finished_at, expired.id
      limit _pgtasks_history_prune.jobs
    )
  );
  get diagnostics v_deleted = row_count;
  return v_deleted;
end;
$history$;

-- Takes everything away that the plugin has made, its history included.
create function {schema}._pgtasks_history_uninstall()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '10s'
as $history$
begin
  drop trigger if exists _pgtasks_history_deleted on {schema}._private_jobs;
  drop trigger if exists _pgtasks_history_failed on {schema}._private_jobs;
  drop table if exists {schema}._pgtasks_history_jobs, {schema}._pgtasks_history_settings;
  drop function if exists
    {schema}._pgtasks_history_record_deleted(),
    {schema}._pgtasks_history_record_failed(),
    {schema}._pgtasks_history_prune(interval, integer),
    {schema}._pgtasks_history_uninstall();
  delete from {schema}._pgtasks_plugin_migrations where plugin = 'history';
end;
$history$;

-- Or whoever has a table of the same columns could write history with it.
revoke execute on function {schema}._pgtasks_history_record_deleted(), {schema}._pgtasks_history_record_failed()
  from public;

create trigger _pgtasks_history_deleted
  after delete on {schema}._private_jobs
  referencing old table as gone
  for each statement execute function {schema}._pgtasks_history_record_deleted();

-- What a claim does ends at the first condition.
create trigger _pgtasks_history_failed
  after update on {schema}._private_jobs
  for each row
  when (
    new.locked_at is null
    and new.attempts >= new.max_attempts
    and (old.locked_at is not null or old.attempts < old.max_attempts)
  )
  execute function {schema}._pgtasks_history_record_failed();
