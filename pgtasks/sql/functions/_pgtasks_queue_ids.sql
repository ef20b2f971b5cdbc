-- The same for queues. Without any, the table is not looked at, so that the transaction does not lock it.
create or replace function {gw}._pgtasks_queue_ids(queue_names text[], register boolean)
returns integer[]
language plpgsql
volatile
as $pgtasks$
declare
  v_missing text[];
begin
  if cardinality(_pgtasks_queue_ids.queue_names) = 0 then
    return '{{}}';
  end if;

  v_missing := array(
    select wanted.queue_name
    from unnest(_pgtasks_queue_ids.queue_names) as wanted (queue_name)
    where not exists (select from {gw}._private_job_queues as job_queues where job_queues.queue_name = wanted.queue_name)
    order by wanted.queue_name
  );
  if cardinality(v_missing) > 0 then
    if not _pgtasks_queue_ids.register then
      return null;
    end if;
    perform {gw}._pgtasks_register_queue(missing.queue_name)
    from unnest(v_missing) with ordinality as missing (queue_name, position)
    order by missing.position;
  end if;
  return array(
    select coalesce(job_queues.id, {gw}._pgtasks_register_queue(wanted.queue_name))
    from unnest(_pgtasks_queue_ids.queue_names) with ordinality as wanted (queue_name, position)
    left join {gw}._private_job_queues as job_queues on job_queues.queue_name = wanted.queue_name
    order by wanted.position
  );
end;
$pgtasks$;
