-- The id of a queue that was not found. `on conflict do nothing` uses up an identity value even where it does nothing,
-- so callers look before they ask.
create or replace function {gw}._pgtasks_register_queue(queue_name text)
returns integer
language plpgsql
volatile
as $pgtasks$
declare
  v_id integer;
begin
  loop
    insert into {gw}._private_job_queues (queue_name)
    values (_pgtasks_register_queue.queue_name)
    on conflict do nothing
    returning id into v_id;
    exit when found;

    -- Someone else was quicker, and may have removed it again before this look.
    select job_queues.id into v_id
    from {gw}._private_job_queues as job_queues
    where job_queues.queue_name = _pgtasks_register_queue.queue_name;
    exit when found;
  end loop;
  return v_id;
end;
$pgtasks$;
