-- Adds a job that has a key, or does to the one that has this key what the mode says. Always returns a row.
--
-- Two things order concurrent calls on a key: the lock on the row that has it, and the unique index on it, where a
-- second inserter waits for the first. A worker that is just claiming the row is waited for too; what it did is what is
-- decided on. Only READ COMMITTED gets here twice: under REPEATABLE READ and SERIALIZABLE a conflict is an ordinary
-- 40001.
create or replace function {gw}._pgtasks_put_keyed_job(
  task_id integer,
  payload json,
  job_queue_id integer,
  run_at timestamptz,
  max_attempts smallint,
  job_key text,
  priority smallint,
  flags jsonb,
  job_key_mode text
)
returns {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_job {gw}._private_jobs;
begin
  loop
    select jobs.* into v_job
    from {gw}._private_jobs as jobs
    where jobs.key = _pgtasks_put_keyed_job.job_key
    for update;

    if found then
      if _pgtasks_put_keyed_job.job_key_mode = 'unsafe_dedupe' then
        update {gw}._private_jobs as jobs
        set revision = jobs.revision + 1, updated_at = now()
        where jobs.id = v_job.id
        returning jobs.* into v_job;
        return v_job;
      end if;

      if v_job.locked_at is null and v_job.attempts < v_job.max_attempts then
        update {gw}._private_jobs as jobs
        set
          job_queue_id = _pgtasks_put_keyed_job.job_queue_id,
          task_id = _pgtasks_put_keyed_job.task_id,
          payload = case
            when json_typeof(jobs.payload) = 'array' and json_typeof(_pgtasks_put_keyed_job.payload) = 'array'
              then {gw}._pgtasks_concat_json_arrays(jobs.payload, _pgtasks_put_keyed_job.payload)
            else _pgtasks_put_keyed_job.payload
          end,
          run_at = case
            when _pgtasks_put_keyed_job.job_key_mode = 'preserve_run_at' and jobs.attempts = 0 then jobs.run_at
            else _pgtasks_put_keyed_job.run_at
          end,
          max_attempts = _pgtasks_put_keyed_job.max_attempts,
          priority = _pgtasks_put_keyed_job.priority,
          flags = _pgtasks_put_keyed_job.flags,
          attempts = 0,
          last_error = null,
          revision = jobs.revision + 1,
          updated_at = now()
        where jobs.id = v_job.id
        returning jobs.* into v_job;
        return v_job;
      end if;

      -- Superseded. The time is the clock's, not the transaction's, which may have begun before the job was claimed:
      -- a job that changed after it was locked is how a give-back knows that it must stay dead.
      update {gw}._private_jobs as jobs
      set key = null, attempts = jobs.max_attempts, updated_at = clock_timestamp()
      where jobs.id = v_job.id;
    end if;

    insert into {gw}._private_jobs
      (job_queue_id, task_id, payload, run_at, max_attempts, key, priority, flags)
    values (
      _pgtasks_put_keyed_job.job_queue_id,
      _pgtasks_put_keyed_job.task_id,
      _pgtasks_put_keyed_job.payload,
      _pgtasks_put_keyed_job.run_at,
      _pgtasks_put_keyed_job.max_attempts,
      _pgtasks_put_keyed_job.job_key,
      _pgtasks_put_keyed_job.priority,
      _pgtasks_put_keyed_job.flags
    )
    on conflict (key) do nothing
    returning * into v_job;
    if found then
      return v_job;
    end if;
    -- Someone else added a job with this key after the look for it.
  end loop;
end;
$pgtasks$;
