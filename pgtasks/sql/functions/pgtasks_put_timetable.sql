create or replace function {gw}.pgtasks_put_timetable(
  id text,
  task text,
  schedule text,
  timezone text = 'UTC',
  payload json = null,
  queue_name text = null,
  max_attempts integer = null,
  job_key text = null,
  priority integer = null,
  flags text[] = null,
  job_key_mode text = null,
  backfill interval = null
)
returns {gw}._pgtasks_timetables
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v_schedule text := btrim(regexp_replace(pgtasks_put_timetable.schedule, '\s+', ' ', 'g'));
  v_timezone text := coalesce(pgtasks_put_timetable.timezone, 'UTC');
  v_timetable {gw}._pgtasks_timetables;
begin
  if v_schedule is null or v_schedule !~ '^(@[A-Za-z]+|[A-Za-z0-9*/,-]+( [A-Za-z0-9*/,-]+){{4}})$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'Invalid schedule %L of timetable %L: it has to be five fields (minute, hour, day, month, weekday) such as '
        '''30 4 * * mon'', or one of the words such as ''@daily''.',
        pgtasks_put_timetable.schedule, pgtasks_put_timetable.id
      );
  end if;
  -- Raises if there is no such zone.
  perform now() at time zone v_timezone;

  insert into {gw}._pgtasks_timetables as known (
    id, task, schedule, timezone, payload, queue_name, max_attempts, job_key, priority, flags, job_key_mode, backfill,
    settled_until
  )
  values (
    pgtasks_put_timetable.id,
    pgtasks_put_timetable.task,
    v_schedule,
    v_timezone,
    pgtasks_put_timetable.payload,
    pgtasks_put_timetable.queue_name,
    pgtasks_put_timetable.max_attempts,
    pgtasks_put_timetable.job_key,
    pgtasks_put_timetable.priority,
    pgtasks_put_timetable.flags,
    pgtasks_put_timetable.job_key_mode,
    coalesce(pgtasks_put_timetable.backfill, interval '0'),
    clock_timestamp()
  )
  on conflict (id) do update
  set
    task = excluded.task,
    schedule = excluded.schedule,
    timezone = excluded.timezone,
    payload = excluded.payload,
    queue_name = excluded.queue_name,
    max_attempts = excluded.max_attempts,
    job_key = excluded.job_key,
    priority = excluded.priority,
    flags = excluded.flags,
    job_key_mode = excluded.job_key_mode,
    backfill = excluded.backfill,
    -- The times of one that stays as it is go on: a deployment that puts all of its timetables again skips none.
    settled_until = case
      when (known.schedule, known.timezone) = (excluded.schedule, excluded.timezone) and known.error is null
        then known.settled_until
      else excluded.settled_until
    end,
    next_at = case
      when (known.schedule, known.timezone) = (excluded.schedule, excluded.timezone) then known.next_at
    end,
    error = null,
    updated_at = now()
  returning known.* into v_timetable;

  if v_timetable.next_at is null and not v_timetable.paused then
    perform pg_notify('pgtasks:timetables', '');
  end if;
  return v_timetable;
end;
$pgtasks$;
