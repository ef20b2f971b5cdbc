-- Makes up for the reference's cleanup, which deletes the tasks and queues that no job has, as it sees it: a job that is
-- being added meanwhile is not seen, and once committed it has the number of something that does not exist. No worker
-- of ours takes such a job, and one without a task is not even in the view. There is nothing that the adding
-- transaction could lock to prevent it. But the triggers _pgtasks_remember_... have noted the names.
--
-- Puts back what such jobs need, under its old number: workers of the reference look the numbers of their tasks up once
-- and never again. Where the name has been registered anew meanwhile, the jobs get the new number instead. Also
-- registers those of the given tasks that are missing.
--
-- Looks at what was deleted within max_age or, if that is null, at everything that was within a day, and then also for
-- jobs that a worker of the reference has taken all the same.
create or replace function {gw}._pgtasks_restore_names(
  task_identifiers text[],
  max_age interval,
  out restored_tasks bigint,
  out restored_queues bigint,
  out renumbered_jobs bigint
)
language plpgsql
volatile
set enable_seqscan = off
set jit = off
as $pgtasks$
declare
  v_since timestamptz := now() - coalesce(_pgtasks_restore_names.max_age, interval '1 day');
  v_other_task_ids integer[] := '{{}}';
  v_task_ids integer[];
  v_queue_ids integer[];
  v_job_ids bigint[];
  v_registered bigint;
begin
  restored_queues := 0;
  renumbered_jobs := 0;
  if _pgtasks_restore_names.max_age is null then
    -- The numbers of tasks are of use for longer, see _pgtasks_register_task.
    delete from {gw}._pgtasks_forgotten_names as forgotten
    where forgotten.ts < v_since and (forgotten.kind <> 'task' or forgotten.ts < now() - interval '90 days');
    v_other_task_ids := array(
      select jobs.task_id from {gw}._private_jobs as jobs where jobs.locked_at is not null
      union
      select jobs.task_id
      from {gw}._private_jobs as jobs
      where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
    );
  end if;

  v_task_ids := array(
    select forgotten.id
    from {gw}._pgtasks_forgotten_names as forgotten
    where forgotten.kind = 'task'
      and forgotten.ts > v_since
      and not exists (select from {gw}._private_tasks as tasks where tasks.id = forgotten.id)
      and (
        forgotten.id = any(v_other_task_ids)
        or exists (
          select from {gw}._private_jobs as jobs
          where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = forgotten.id
        )
        or exists (
          select from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is not null
            and jobs.task_id >= -2147483648
            and jobs.task_id = forgotten.id
        )
      )
  );
  v_queue_ids := array(
    select forgotten.id
    from {gw}._pgtasks_forgotten_names as forgotten
    where forgotten.kind = 'queue'
      and forgotten.ts > v_since
      and not exists (select from {gw}._private_job_queues as job_queues where job_queues.id = forgotten.id)
      and exists (
        select from {gw}._private_jobs as jobs where jobs.is_available and jobs.job_queue_id = forgotten.id
      )
  );

  -- Of a name that was deleted more than once, the number that a job has, or else the latest.
  insert into {gw}._private_tasks (id, identifier)
  overriding system value
  select distinct on (forgotten.name) forgotten.id, forgotten.name
  from {gw}._pgtasks_forgotten_names as forgotten
  where forgotten.kind = 'task'
    and forgotten.ts > v_since
    and (forgotten.id = any(v_task_ids) or forgotten.name = any(_pgtasks_restore_names.task_identifiers))
    and not exists (select from {gw}._private_tasks as tasks where tasks.identifier = forgotten.name)
  order by forgotten.name, forgotten.id = any(v_task_ids) desc, forgotten.id desc
  on conflict do nothing;
  get diagnostics restored_tasks = row_count;

  select count({gw}._pgtasks_register_task(missing.identifier)) into v_registered
  from (
    select wanted.identifier
    from unnest(_pgtasks_restore_names.task_identifiers) as wanted (identifier)
    where not exists (select from {gw}._private_tasks as tasks where tasks.identifier = wanted.identifier)
    order by wanted.identifier
  ) as missing;
  restored_tasks := restored_tasks + v_registered;

  if cardinality(v_queue_ids) > 0 then
    insert into {gw}._private_job_queues (id, queue_name)
    overriding system value
    select distinct on (forgotten.name) forgotten.id, forgotten.name
    from {gw}._pgtasks_forgotten_names as forgotten
    where forgotten.kind = 'queue' and forgotten.id = any(v_queue_ids)
    order by forgotten.name, forgotten.id desc
    on conflict do nothing;
    get diagnostics restored_queues = row_count;
  end if;

  if cardinality(v_task_ids || v_queue_ids) = 0 then
    return;
  end if;
  select array_agg(idle.id) into v_job_ids
  from (
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.locked_at is null and (jobs.task_id = any(v_task_ids) or jobs.job_queue_id = any(v_queue_ids))
    order by jobs.id
    for update skip locked
  ) as idle;
  with numbers as (
    select jobs.id, tasks.id as task_id, job_queues.id as job_queue_id
    from {gw}._private_jobs as jobs
    left join {gw}._pgtasks_forgotten_names as task on task.kind = 'task' and task.id = jobs.task_id
    left join {gw}._private_tasks as tasks on tasks.identifier = task.name
    left join {gw}._pgtasks_forgotten_names as queue on queue.kind = 'queue' and queue.id = jobs.job_queue_id
    left join {gw}._private_job_queues as job_queues on job_queues.queue_name = queue.name
    where jobs.id = any(v_job_ids)
  )
  update {gw}._private_jobs as jobs
  set
    task_id = coalesce(numbers.task_id, jobs.task_id),
    job_queue_id = coalesce(numbers.job_queue_id, jobs.job_queue_id),
    updated_at = now()
  from numbers
  where jobs.id = numbers.id and (numbers.task_id <> jobs.task_id or numbers.job_queue_id <> jobs.job_queue_id);
  get diagnostics renumbered_jobs = row_count;

  if cardinality(v_job_ids) > 0 then
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', cardinality(v_job_ids))::text);
  end if;
end;
$pgtasks$;
