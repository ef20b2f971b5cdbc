-- breaking: no

-- Workers that have ended and whose jobs were given back. A statement of such a worker may still be on its way in the
-- server; were its claim done afterwards, nobody would be left to run the jobs.
create table {gw}._pgtasks_retired_workers (
  worker_id text primary key,
  ts timestamptz not null default now()
);
