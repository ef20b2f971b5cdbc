-- Unlocks queues whose jobs have ended, where the lock is still that of the job's claim. The arrays belong together by
-- position; rows are locked in the order of their ids. Planned like the functions that call it, whose settings hold here.
create or replace function {gw}._pgtasks_free_queues(worker_id text, queue_ids integer[], locked_ats timestamptz[])
returns void
language plpgsql
volatile
as $pgtasks$
begin
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  from (
    select freed.id, freed.locked_at
    from unnest(_pgtasks_free_queues.queue_ids, _pgtasks_free_queues.locked_ats) as freed (id, locked_at)
    order by freed.id
  ) as freed
  where job_queues.id = any(array[freed.id])
    and job_queues.locked_by = _pgtasks_free_queues.worker_id
    and job_queues.locked_at = freed.locked_at;
end;
$pgtasks$;
