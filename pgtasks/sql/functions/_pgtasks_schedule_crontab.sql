-- Adds the jobs of crontab entries for times that have come, each exactly once, however many hosts ask for it: the entry's
-- last_execution goes forward to the time, and only where it did is the job added. Graphile Worker does the same.
--
-- What is asked for comes element by element, oldest first: a time, an entry, and its job, unless that is not wanted.
-- Then, as for an entry that is paused, the time is dealt with and nothing is added. A time that has not come by the
-- clock (null: the database's) is left alone. Returned are a row with that clock alone, and one for each time that was
-- dealt with by this call.
create or replace function {gw}._pgtasks_schedule_crontab(
  host text,
  clock timestamptz,
  ticks timestamptz[],
  identifiers text[],
  wanted boolean[],
  tasks text[],
  payloads text[],
  queue_names text[],
  run_at timestamptz[],
  max_attempts integer[],
  job_keys text[],
  priorities integer[],
  flags text[],
  job_key_modes text[]
)
returns table (found_at timestamptz, index integer, state text, job_id bigint)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v_clock timestamptz;
  v_keys text[];
  v_minute record;
  v_advanced integer[];
  v_paused text[];
  v_index integer;
  v_job {gw}._private_jobs;
  v_added integer[] := '{{}}';
  v_job_ids bigint[] := '{{}}';
begin
  if cardinality(ticks) > 0 then
    -- One at a time: who comes second finds nothing left to do, and two that have the same entries in another order do
    -- not wait for each other.
    perform set_config('lock_timeout', '0', true);
    perform pg_advisory_xact_lock(hashtextextended({gw_text} || ' crontab', 0));
    -- A transaction that is left open on the key of one job must not keep all others, on all hosts, from being added.
    perform set_config('lock_timeout', '1s', true);
  end if;
  v_clock := coalesce(_pgtasks_schedule_crontab.clock, clock_timestamp());
  return query select v_clock, null::integer, null::text, null::bigint;
  v_paused := array(select noted.identifier from {gw}._pgtasks_crontabs as noted where noted.paused_at is not null);

  for v_minute in
    select given.tick, min(given.index)::integer as first, max(given.index)::integer as last
    from unnest(ticks) with ordinality as given (tick, index)
    where given.tick <= v_clock
    group by given.tick
    order by given.tick
  loop
    with given as (
      select named.identifier, named.index
      from unnest(identifiers[v_minute.first:v_minute.last]) with ordinality as named (identifier, index)
    ),
    advanced as (
      insert into {gw}._private_known_crontabs as known (identifier, known_since, last_execution)
      select given.identifier, v_minute.tick, v_minute.tick
      from given
      -- So that nothing is written, nor any row locked, where there is nothing to do.
      where not exists (
        select from {gw}._private_known_crontabs as done
        where done.identifier = given.identifier and done.last_execution >= v_minute.tick
      )
      order by given.index
      on conflict (identifier) do update
      set last_execution = excluded.last_execution
      where known.last_execution is null or known.last_execution < excluded.last_execution
      returning known.identifier
    )
    select array_agg((given.index + v_minute.first - 1)::integer order by given.index) into v_advanced
    from given
    join advanced on advanced.identifier = given.identifier;

    continue when v_advanced is null;
    if v_keys is null then
      -- As everybody does who adds several jobs with keys: first the keys, then the jobs that have them, by their ids.
      v_keys := array(select distinct named.key from unnest(job_keys) as named (key) where named.key is not null);
      if cardinality(v_keys) > 1 then
        perform {gw}._pgtasks_lock_job_keys(v_keys);
        perform from {gw}._private_jobs as jobs where jobs.key = any(v_keys) order by jobs.id for update;
      end if;
    end if;

    foreach v_index in array v_advanced loop
      if not wanted[v_index] then
        return query select null::timestamptz, v_index, 'refused', null::bigint;
      elsif identifiers[v_index] = any(v_paused) then
        return query select null::timestamptz, v_index, 'paused', null::bigint;
      else
        v_job := {gw}._pgtasks_add_job(
          tasks[v_index],
          payloads[v_index]::json,
          queue_names[v_index],
          coalesce(run_at[v_index], v_minute.tick),
          max_attempts[v_index],
          job_keys[v_index],
          priorities[v_index],
          case when flags[v_index] is not null then array(select json_array_elements_text(flags[v_index]::json)) end,
          coalesce(job_key_modes[v_index], 'replace'),
          notify => false
        );
        v_added := v_added || v_index;
        v_job_ids := v_job_ids || v_job.id;
        return query select null::timestamptz, v_index, 'added', v_job.id;
      end if;
    end loop;
  end loop;

  if cardinality(v_added) > 0 then
    insert into {gw}._pgtasks_crontabs as noted (identifier, last_tick, scheduled_at, scheduled_by, last_job_id)
    select distinct on (added.identifier) added.identifier, added.tick, v_clock, host, added.job_id
    from (
      select identifiers[done.index] as identifier, ticks[done.index] as tick, done.job_id
      from unnest(v_added, v_job_ids) as done (index, job_id)
    ) as added
    order by added.identifier, added.tick desc
    on conflict (identifier) do update
    set
      last_tick = excluded.last_tick,
      scheduled_at = excluded.scheduled_at,
      scheduled_by = excluded.scheduled_by,
      last_job_id = excluded.last_job_id;
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', cardinality(v_added))::text);
  end if;
end;
$pgtasks$;
