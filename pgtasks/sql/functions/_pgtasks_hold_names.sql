-- Keeps tasks and queues from being deleted until the transaction ends, and fails with 40001 if one has been since its
-- snapshot was taken. Not needed, and not called, under READ COMMITTED: see _pgtasks_cleanup.
--
-- What keeps them is the lock on the tables that reading takes. The locks on the rows are only there to fail: they are
-- given back at once, since no job of a queue is claimed while its row is locked.
create or replace function {gw}._pgtasks_hold_names(task_identifiers text[], queue_names text[])
returns void
language plpgsql
volatile
as $pgtasks$
begin
  perform from {gw}._private_tasks limit 1;
  perform from {gw}._private_job_queues limit 1;
  begin
    perform from {gw}._private_tasks as tasks
    where tasks.identifier = any(_pgtasks_hold_names.task_identifiers)
    order by tasks.id
    for key share;

    perform from {gw}._private_job_queues as job_queues
    where job_queues.queue_name = any(_pgtasks_hold_names.queue_names)
    order by job_queues.id
    for key share;

    raise exception using errcode = 'GWOFF';
  exception
    when sqlstate 'GWOFF' then
      null;
  end;
end;
$pgtasks$;
