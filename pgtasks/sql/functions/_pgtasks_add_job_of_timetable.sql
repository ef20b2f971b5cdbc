-- Adds the job of a timetable for one of its times.
create or replace function {gw}._pgtasks_add_job_of_timetable(
  timetable {gw}._pgtasks_timetables,
  moment timestamptz,
  backfilled boolean,
  notify boolean
)
returns {gw}._private_jobs
language sql
volatile
as $pgtasks$
  select {gw}._pgtasks_add_job(
    timetable.task,
    -- Written into the text: a jsonb could not hold every payload that a json can.
    (
      case
        when coalesce(timetable.payload::text, '{{}}') ~ '^\s*\{{\s*\}}\s*$' then '{{'
        else left(rtrim(timetable.payload::text, E' \t\r\n'), -1) || ', '
      end
      || '"_cron": {{"ts": "' || to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      || '", "backfilled": ' || backfilled::text || '}}}}'
    )::json,
    timetable.queue_name,
    moment,
    timetable.max_attempts::integer,
    timetable.job_key,
    timetable.priority::integer,
    timetable.flags,
    coalesce(timetable.job_key_mode, 'replace'),
    notify
  )
$pgtasks$;
