-- breaking: no

-- Jobs that somebody has cancelled while a worker held them, by the claim by which it does. A row goes when its job has
-- ended, at the latest with the next sweep.
create table {gw}._pgtasks_cancellations (
  job_id bigint primary key,
  locked_by text,
  locked_at timestamptz not null,
  reason text,
  requested_at timestamptz not null default now()
);
create index _pgtasks_cancellations_worker_idx on {gw}._pgtasks_cancellations (locked_by);
