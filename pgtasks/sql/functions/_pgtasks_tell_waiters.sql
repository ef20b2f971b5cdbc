-- Notifies those who wait for jobs that have ended or failed for good, by the ids of these jobs on the channel
-- pgtasks:ended. To be called after the jobs' rows were changed, so that nobody is missed who registered before that and
-- has looked in vain; who looks just before this transaction commits is missed, and looks again a moment later.
--
-- Each end of jobs asks first whether somebody waits for one of them: by these ids and not whether there is any wait at
-- all, since that would be a walk over all waits that were, for as long as a snapshot from before them is held.
create or replace function {gw}._pgtasks_tell_waiters(job_ids bigint[])
returns void
language plpgsql
volatile
as $pgtasks$
begin
  -- A notification holds less than 8000 bytes, an id at most 19 of them.
  perform pg_notify('pgtasks:ended', string_agg(told.job_id::text, ','))
  from (
    select waits.job_id, (row_number() over () - 1) / 380 as part
    from (
      select distinct waits.job_id
      from {gw}._pgtasks_waits as waits
      where waits.job_id = any(_pgtasks_tell_waiters.job_ids)
    ) as waits
  ) as told
  group by told.part;
end;
$pgtasks$;
