-- breaking: no

-- How far running jobs have come, as their handlers say: a row for each that says so. What tells one run from another is
-- the claim, as everywhere; whoever reads a row compares it with the job's. Unlogged, since it is of no use after a crash
-- of the server: no job is running then. A standby cannot read such a table, so readers do not try there.
create unlogged table {gw}._pgtasks_progress (
  job_id bigint primary key,
  worker_id text not null,
  locked_at timestamptz not null,
  attempt smallint not null,
  done double precision not null,
  total double precision,
  note text,
  updated_at timestamptz not null default now()
) with (fillfactor = 50);
