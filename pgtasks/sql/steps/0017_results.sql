-- breaking: no

-- Who waits for which jobs to end, so that whoever ends one knows whether somebody is to be told. Mostly empty, and a
-- hint: whoever waits also looks by himself now and then. `until` is renewed for as long as he does.
create unlogged table {gw}._pgtasks_waits (
  job_id bigint,
  waiter_id uuid,
  until timestamptz not null,
  primary key (job_id, waiter_id)
)
-- Each end of a batch of jobs looks whether there is a row, and should not have to look past many dead ones.
with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- How jobs have ended whose tasks store results, and which were cancelled while somebody waited for them. A row says
-- nothing as long as its job is there: it may have been put back after it had failed.
create table {gw}._pgtasks_results (
  job_id bigint primary key,
  task text,
  state text not null check (state in ('succeeded', 'failed', 'cancelled')),
  -- What the handler has returned; null if the job has not succeeded.
  value json,
  -- Why it has failed, or was cancelled.
  error text,
  finished_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index _pgtasks_results_expires_at_idx on {gw}._pgtasks_results (expires_at);
