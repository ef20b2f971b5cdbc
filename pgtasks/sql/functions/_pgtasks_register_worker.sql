-- Makes a worker known, so that other hosts give back what it holds should its heartbeats end. Done once before its first
-- claim; doing it again changes nothing.
create or replace function {gw}._pgtasks_register_worker(
  worker_id text,
  host_id text,
  host_name text,
  pid integer,
  version text
)
returns void
language sql
volatile
as $pgtasks$
  insert into {gw}._pgtasks_workers (id, host_id, host_name, pid, version)
  values (
    _pgtasks_register_worker.worker_id,
    _pgtasks_register_worker.host_id,
    _pgtasks_register_worker.host_name,
    _pgtasks_register_worker.pid,
    _pgtasks_register_worker.version
  )
  on conflict do nothing
$pgtasks$;
