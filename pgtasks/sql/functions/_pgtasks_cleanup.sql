-- Clears away what nobody needs any more, at most max_rows of each kind:
--   DELETE_PERMAFAILED_JOBS  jobs whose attempts are used up, oldest first
--   GC_TASK_IDENTIFIERS      tasks that no job has
--   GC_JOB_QUEUES            queues that no job has and nobody has locked
--
-- A job names its task and queue by number, without a foreign key, and whoever adds one looks the number up first. A row
-- must not be deleted in between. What keeps it is the lock on the *table* that every reader holds until its transaction
-- ends: `access exclusive` is granted only once all transactions that have looked up a name have ended, and then their
-- jobs can be seen; whoever looks later finds the row gone and registers the name anew. So adding a job costs nothing
-- more than before. While the lock is waited for, everything else waits behind it; therefore 0.2 s at most, and the
-- operation is reported as busy where a transaction that has added jobs stays open for longer, or another cleanup has the
-- lock. Candidates are looked for before the lock, and with none there is none.
--
-- A transaction of another isolation level may have a snapshot from before the deletion. There, adding locks the rows
-- themselves: see _pgtasks_hold_names.
--
-- The settings: the checks under the lock are lookups in indexes, whatever the statistics say.
create or replace function {gw}._pgtasks_cleanup(
  operations text[],
  max_rows integer,
  out deleted_tasks bigint,
  out deleted_queues bigint,
  out deleted_jobs bigint,
  out more boolean,
  out busy text[]
)
language plpgsql
volatile
set lock_timeout = '200ms'
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $pgtasks$
declare
  v_job_ids bigint[];
  v_ids integer[];
begin
  if not _pgtasks_cleanup.operations <@ array['GC_TASK_IDENTIFIERS', 'GC_JOB_QUEUES', 'DELETE_PERMAFAILED_JOBS'] then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'Invalid operation, expected ''GC_TASK_IDENTIFIERS'', ''GC_JOB_QUEUES'' or ''DELETE_PERMAFAILED_JOBS''.';
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'invalid_transaction_state',
      message = format(
        'A cleanup has to see what was committed while it waited, which %s does not allow: run it in READ COMMITTED.',
        upper(current_setting('transaction_isolation'))
      );
  end if;
  deleted_tasks := 0;
  deleted_queues := 0;
  deleted_jobs := 0;
  more := false;
  busy := '{{}}';

  if 'DELETE_PERMAFAILED_JOBS' = any(_pgtasks_cleanup.operations) then
    v_job_ids := array(
      select jobs.id
      from {gw}._private_jobs as jobs
      where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
      order by jobs.id
      limit _pgtasks_cleanup.max_rows
      for update skip locked
    );
    delete from {gw}._private_jobs as jobs where jobs.id = any(v_job_ids);
    get diagnostics deleted_jobs = row_count;
    more := cardinality(v_job_ids) >= _pgtasks_cleanup.max_rows;
  end if;

  if 'GC_TASK_IDENTIFIERS' = any(_pgtasks_cleanup.operations) then
    begin
      v_ids := {gw}._pgtasks_find_unused_tasks(null, _pgtasks_cleanup.max_rows);
      more := more or cardinality(v_ids) >= _pgtasks_cleanup.max_rows;
      if cardinality(v_ids) > 0 then
        lock table {gw}._private_tasks in access exclusive mode;
        v_ids := {gw}._pgtasks_find_unused_tasks(v_ids, _pgtasks_cleanup.max_rows);
        delete from {gw}._private_tasks as tasks where tasks.id = any(v_ids);
        get diagnostics deleted_tasks = row_count;
      end if;
    exception
      when lock_not_available then
        busy := busy || 'GC_TASK_IDENTIFIERS'::text;
    end;
  end if;

  if 'GC_JOB_QUEUES' = any(_pgtasks_cleanup.operations) then
    begin
      v_ids := {gw}._pgtasks_find_unused_queues(null, _pgtasks_cleanup.max_rows);
      more := more or cardinality(v_ids) >= _pgtasks_cleanup.max_rows;
      if cardinality(v_ids) > 0 then
        lock table {gw}._private_job_queues in access exclusive mode;
        v_ids := {gw}._pgtasks_find_unused_queues(v_ids, _pgtasks_cleanup.max_rows);
        delete from {gw}._private_job_queues as job_queues where job_queues.id = any(v_ids);
        get diagnostics deleted_queues = row_count;
      end if;
    exception
      when lock_not_available then
        busy := busy || 'GC_JOB_QUEUES'::text;
    end;
  end if;
end;
$pgtasks$;
