-- Writes how far jobs have come that a worker runs, and forgets it of those that it has ended. The arrays from `ids` on
-- belong together by position. Returns the ids of the jobs that the worker still holds by these claims; nothing is
-- written about the others.
--
-- Nobody waits for this, and it must wait for nobody: what cannot be written at once is written a second later.
-- Why the other settings, see _pgtasks_finish_jobs.
create or replace function {gw}._pgtasks_report_progress(
  worker_id text,
  ended_ids bigint[],
  ids bigint[],
  locked_ats timestamptz[],
  attempts smallint[],
  done double precision[],
  total double precision[],
  notes text[]
)
returns setof bigint
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set lock_timeout = '500ms'
as $pgtasks$
begin
  delete from {gw}._pgtasks_progress as known
  where known.job_id = any(_pgtasks_report_progress.ended_ids)
    and known.worker_id = _pgtasks_report_progress.worker_id;

  return query
    insert into {gw}._pgtasks_progress as known (job_id, worker_id, locked_at, attempt, done, total, note)
    select
      given.id, _pgtasks_report_progress.worker_id, given.locked_at, given.attempt, given.done, given.total, given.note
    from unnest(
      _pgtasks_report_progress.ids,
      _pgtasks_report_progress.locked_ats,
      _pgtasks_report_progress.attempts,
      _pgtasks_report_progress.done,
      _pgtasks_report_progress.total,
      _pgtasks_report_progress.notes
    ) as given (id, locked_at, attempt, done, total, note)
    where exists (
      select from {gw}._private_jobs as jobs
      where jobs.id = given.id
        and jobs.locked_by = _pgtasks_report_progress.worker_id
        and jobs.locked_at = given.locked_at
    )
    order by given.id
    on conflict (job_id) do update
    set
      worker_id = excluded.worker_id,
      locked_at = excluded.locked_at,
      attempt = excluded.attempt,
      done = excluded.done,
      total = excluded.total,
      note = excluded.note,
      updated_at = excluded.updated_at
    -- The next claim may have been reported of since the lines above looked.
    where known.locked_at <= excluded.locked_at
    returning known.job_id;
end;
$pgtasks$;
