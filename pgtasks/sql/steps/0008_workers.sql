-- breaking: no

-- The worker processes of all hosts. A row is kept for a day after its worker has ended: a claim of its may still be on
-- its way in the server, and is refused as long as the row says that the worker was retired.
create table {gw}._pgtasks_workers (
  id text primary key,
  host_id text,
  host_name text,
  pid integer,
  version text,
  started_at timestamptz not null default now(),
  heartbeat_at timestamptz not null default now(),
  running integer not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  -- Since when it can claim nothing any more, and since when nothing is locked by it.
  retired_at timestamptz,
  released_at timestamptz
) with (fillfactor = 50);

insert into {gw}._pgtasks_workers (id, retired_at, released_at)
select retired.worker_id, retired.ts, retired.ts from {gw}._pgtasks_retired_workers as retired;
drop table {gw}._pgtasks_retired_workers;

-- How often in a row a job was given back since its host was lost while the job may have been running. It begins anew
-- when an attempt has ended otherwise, or the job has become another one.
create table {gw}._pgtasks_interruptions (
  job_id bigint primary key,
  revision integer not null,
  attempts smallint not null,
  interruptions integer not null default 1,
  ts timestamptz not null default now()
);

-- Has one parameter more now.
drop function if exists {gw}._pgtasks_release_worker(text, bigint[], boolean);
