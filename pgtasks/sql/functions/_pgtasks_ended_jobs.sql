-- Tells how jobs that somebody waits for have ended, as far as can be known. A job for which there is no row has not.
--   state       failed     permanently, if the job is there; or its result says so
--               succeeded  or cancelled, as its result says
--               gone       it is not there, and has left no result that has not expired
--               open       likewise, but another transaction is open that began just when the job was created, and may have it
--   task        its task, if the job is there or has left a result
-- created_ats belongs to ids by position; null for a job of which it is known that its transaction has committed.
--
-- The settings: ids are looked up one by one, in tables whose statistics are always out of date.
create or replace function {gw}._pgtasks_ended_jobs(ids bigint[], created_ats timestamptz[])
returns table (id bigint, state text, task text, value json, error text)
language plpgsql
stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $pgtasks$
#variable_conflict use_column
begin
  return query
    select
      asked.id,
      case
        when jobs.id is not null then 'failed'
        when results.state is not null then results.state
        when asked.created_at is not null and exists (
          select from pg_catalog.pg_stat_activity as activity
          where activity.xact_start = asked.created_at and activity.pid <> pg_backend_pid()
        ) then 'open'
        else 'gone'
      end,
      coalesce(
        (select tasks.identifier from {gw}._private_tasks as tasks where tasks.id = jobs.task_id),
        results.task
      ),
      case when jobs.id is null then results.value end,
      coalesce(jobs.last_error, results.error)
    from unnest(_pgtasks_ended_jobs.ids, _pgtasks_ended_jobs.created_ats) as asked (id, created_at)
    left join {gw}._private_jobs as jobs on jobs.id = any(array[asked.id])
    left join {gw}._pgtasks_results as results
      on results.job_id = any(array[asked.id]) and results.expires_at > now()
    where jobs.id is null or (jobs.attempts >= jobs.max_attempts and jobs.locked_at is null);
end;
$pgtasks$;
