-- How far running jobs have come that have said so, in the order of their ids: of these jobs, or, without ids, of all;
-- max_rows at most. What is left of claims that have ended is passed over. A standby knows nothing of this.
-- Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_list_progress(job_ids bigint[], max_rows integer)
returns table (
  job_id bigint,
  worker_id text,
  attempt smallint,
  done double precision,
  total double precision,
  note text,
  updated_at timestamptz,
  age double precision
)
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $pgtasks$
#variable_conflict use_column
begin
  if pg_is_in_recovery() then
    return;
  end if;
  return query
    select
      known.job_id, known.worker_id, known.attempt, known.done, known.total, known.note, known.updated_at,
      extract(epoch from clock_timestamp() - known.updated_at)::double precision
    from {gw}._pgtasks_progress as known
    where (_pgtasks_list_progress.job_ids is null or known.job_id = any(_pgtasks_list_progress.job_ids))
      and exists (
        select from {gw}._private_jobs as jobs
        where jobs.id = known.job_id and jobs.locked_by = known.worker_id and jobs.locked_at = known.locked_at
      )
    order by known.job_id
    limit _pgtasks_list_progress.max_rows;
end;
$pgtasks$;
