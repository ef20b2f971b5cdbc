-- Says that a host's workers are alive and how they are, and tells it
--   evicted_ids  those of them that somebody has retired, since their heartbeats had not come for too long
--   dead_ids     other workers whose heartbeats have not come for stale_after, or which somebody retired so long ago and
--                did not release to the end; longest dead first. Some may be back by the time that they are acted on:
--                _pgtasks_release_worker looks again.
--   silence      the seconds since the last heartbeat of its own, by the database's clock; null if there was none. When
--                the database, or its clock, has leapt, everybody has been silent.
-- A worker whose row is gone, as in a database that was restored, gets it back.
create or replace function {gw}._pgtasks_heartbeat(
  host_id text,
  host_name text,
  version text,
  worker_ids text[],
  pids integer[],
  running integer[],
  succeeded bigint[],
  failed bigint[],
  stale_after double precision,
  out evicted_ids text[],
  out dead_ids text[],
  out silence double precision
)
language plpgsql
volatile
as $pgtasks$
begin
  select max(extract(epoch from now() - workers.heartbeat_at)) into silence
  from {gw}._pgtasks_workers as workers
  where workers.id = any(_pgtasks_heartbeat.worker_ids) and workers.retired_at is null;

  update {gw}._pgtasks_workers as workers
  set heartbeat_at = now(), running = alive.running, succeeded = alive.succeeded, failed = alive.failed
  from unnest(
    _pgtasks_heartbeat.worker_ids,
    _pgtasks_heartbeat.running,
    _pgtasks_heartbeat.succeeded,
    _pgtasks_heartbeat.failed
  ) as alive (id, running, succeeded, failed)
  where workers.id = alive.id and workers.retired_at is null;

  insert into {gw}._pgtasks_workers (id, host_id, host_name, pid, version)
  select
    alive.id, _pgtasks_heartbeat.host_id, _pgtasks_heartbeat.host_name, alive.pid, _pgtasks_heartbeat.version
  from unnest(_pgtasks_heartbeat.worker_ids, _pgtasks_heartbeat.pids) as alive (id, pid)
  where not exists (select from {gw}._pgtasks_workers as workers where workers.id = alive.id)
  on conflict do nothing;

  evicted_ids := array(
    select workers.id
    from {gw}._pgtasks_workers as workers
    where workers.id = any(_pgtasks_heartbeat.worker_ids) and workers.retired_at is not null
  );
  dead_ids := array(
    select workers.id
    from {gw}._pgtasks_workers as workers
    where workers.released_at is null
      and coalesce(workers.retired_at, workers.heartbeat_at)
        < now() - make_interval(secs => _pgtasks_heartbeat.stale_after)
      and workers.id <> all(_pgtasks_heartbeat.worker_ids)
    order by workers.heartbeat_at
    limit 100
  );
end;
$pgtasks$;
