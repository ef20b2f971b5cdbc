-- breaking: no

-- Timetables that users keep as data: each adds a job at the times that its schedule says.
create table {gw}._pgtasks_timetables (
  id text primary key check (length(id) between 1 and 512),
  task text not null check (length(task) between 1 and 128),
  -- Only its form is checked here: what it means is for workers to say.
  schedule text not null,
  timezone text not null,
  -- What its jobs get, beside the key _cron; null: nothing.
  payload json check (json_typeof(payload) = 'object'),
  queue_name text check (length(queue_name) <= 128),
  max_attempts smallint check (max_attempts >= 1),
  job_key text check (length(job_key) between 1 and 512),
  priority smallint,
  flags text[],
  job_key_mode text check (job_key_mode in ('replace', 'preserve_run_at', 'unsafe_dedupe')),
  backfill interval not null check (backfill >= interval '0'),
  paused boolean not null default false,
  -- All its times up to this one are dealt with.
  settled_until timestamptz not null check (isfinite(settled_until)),
  -- Its next time; null: a worker has to find it out, unless the error says that there is none.
  next_at timestamptz check (isfinite(next_at)),
  error text,
  -- Its latest time for which a job was added, when that was done, and by which host.
  last_at timestamptz,
  scheduled_at timestamptz,
  scheduled_by text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
)
-- What is left of rows that have changed is cleared away soon: a look for what is due has to pass over it.
with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
create index _pgtasks_timetables_next_at_idx on {gw}._pgtasks_timetables (next_at)
  where next_at is not null and not paused;
create index _pgtasks_timetables_unplanned_idx on {gw}._pgtasks_timetables (id)
  where next_at is null and error is null and not paused;
