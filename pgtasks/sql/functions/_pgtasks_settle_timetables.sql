-- Adds jobs for times of timetables, and notes up to where each is settled and what its next time is, all in one: only of
-- those that are still as they were found (their schedule, and up to where they were settled), so that of several hosts
-- which have found the same one adds the jobs. What somebody else is just settling or changing is passed over.
--
-- moments has the times of all timetables one after the other, counts how many of them each has. A time of a minute ago or
-- more is marked as backfilled. Returned are the timetables that were settled.
create or replace function {gw}._pgtasks_settle_timetables(
  host text,
  found_at timestamptz,
  ids text[],
  schedules text[],
  timezones text[],
  settled_before timestamptz[],
  settled_until timestamptz[],
  next_at timestamptz[],
  errors text[],
  counts integer[],
  moments timestamptz[]
)
returns setof text
language plpgsql
volatile
as $pgtasks$
declare
  v_ids text[];
  v_keys text[];
  v_found record;
  v_moment timestamptz;
  v_added integer := 0;
begin
  -- A transaction that is left open on the key of one job must not keep all others from being added.
  perform set_config('lock_timeout', '1s', true);
  v_ids := array(
    select known.id
    from unnest(
      _pgtasks_settle_timetables.ids,
      _pgtasks_settle_timetables.schedules,
      _pgtasks_settle_timetables.timezones,
      _pgtasks_settle_timetables.settled_before
    ) as found (id, schedule, timezone, settled_until)
    join {gw}._pgtasks_timetables as known on known.id = found.id
    where (known.schedule, known.timezone, known.settled_until) = (found.schedule, found.timezone, found.settled_until)
      and known.error is null
      and not known.paused
    for update of known skip locked
  );

  -- As everybody does who adds several jobs with keys: first the keys, then the jobs that have them, by their ids.
  v_keys := array(
    select distinct known.job_key
    from {gw}._pgtasks_timetables as known
    where known.id = any(v_ids) and known.job_key is not null
  );
  if cardinality(v_keys) > 1 then
    perform {gw}._pgtasks_lock_job_keys(v_keys);
    perform from {gw}._private_jobs as jobs where jobs.key = any(v_keys) order by jobs.id for update;
  end if;

  for v_found in
    select
      known as timetable, found.until, found.next_at, found.error, found.count,
      _pgtasks_settle_timetables.moments[found.last - found.count + 1:found.last] as moments
    from (
      select named.*, sum(named.count) over (order by named.position)::integer as last
      from unnest(
        _pgtasks_settle_timetables.ids,
        _pgtasks_settle_timetables.settled_until,
        _pgtasks_settle_timetables.next_at,
        _pgtasks_settle_timetables.errors,
        _pgtasks_settle_timetables.counts
      ) with ordinality as named (id, until, next_at, error, count, position)
    ) as found
    join {gw}._pgtasks_timetables as known on known.id = found.id
    where found.id = any(v_ids)
    order by found.position
  loop
    foreach v_moment in array v_found.moments loop
      perform {gw}._pgtasks_add_job_of_timetable(
        v_found.timetable,
        v_moment,
        backfilled => v_moment <= _pgtasks_settle_timetables.found_at - interval '1 minute',
        notify => false
      );
      v_added := v_added + 1;
    end loop;

    update {gw}._pgtasks_timetables as known
    set
      settled_until = v_found.until,
      next_at = v_found.next_at,
      error = v_found.error,
      last_at = case when v_found.count > 0 then v_moment else known.last_at end,
      scheduled_at = case when v_found.count > 0 then clock_timestamp() else known.scheduled_at end,
      scheduled_by = case when v_found.count > 0 then _pgtasks_settle_timetables.host else known.scheduled_by end
    where known.id = (v_found.timetable).id;
    return next (v_found.timetable).id;
  end loop;

  if v_added > 0 then
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', v_added)::text);
  end if;
end;
$pgtasks$;
