create table {schema}._pgtasks_pause_pauses (
  id bigint generated always as identity primary key,
  what text not null check (what in ('task', 'queue', 'flag')),
  name text not null check (name <> ''),
  since timestamptz not null check (isfinite(since)),
  until timestamptz check (isfinite(until) and until > since),
  weekdays smallint[] check (cardinality(weekdays) > 0 and weekdays <@ array[1, 2, 3, 4, 5, 6, 7]::smallint[]),
  starts time,
  ends time,
  timezone text,
  reason text,
  paused_by text not null,
  check (num_nulls(weekdays, starts, ends, timezone) in (0, 4))
);
comment on table {schema}._pgtasks_pause_pauses is
  'What workers leave alone, from since to until; with weekdays, only within these windows. See the view pgtasks_paused.';

-- Whether a pause holds at a time. Windows are those of the wall clock in their time zone: they begin on weekdays (1 is
-- Monday) at starts, and end at ends, on the next day if that is not later. starts = ends: a whole day.
create function {schema}._pgtasks_pause_holds(
  moment timestamptz,
  since timestamptz,
  until timestamptz,
  weekdays smallint[],
  starts time,
  ends time,
  timezone text
)
returns boolean
language sql
stable
as $$
  select moment >= since
    and (until is null or moment < until)
    and case
      when weekdays is null then true
      when starts < ends
        then extract(isodow from local.clock)::smallint = any(weekdays)
          and local.clock::time >= starts
          and local.clock::time < ends
      else
        (extract(isodow from local.clock)::smallint = any(weekdays) and local.clock::time >= starts)
        or (
          extract(isodow from local.clock - interval '1 day')::smallint = any(weekdays) and local.clock::time < ends
        )
    end
  from (select moment at time zone timezone as clock) as local;
$$;

create view {schema}.pgtasks_paused as
  select
    pauses.id,
    pauses.what,
    pauses.name,
    {schema}._pgtasks_pause_holds(
      now(), pauses.since, pauses.until, pauses.weekdays, pauses.starts, pauses.ends, pauses.timezone
    ) as holds,
    pauses.since,
    pauses.until,
    pauses.weekdays,
    pauses.starts,
    pauses.ends,
    pauses.timezone,
    pauses.reason,
    pauses.paused_by
  from {schema}._pgtasks_pause_pauses as pauses
  where pauses.until is null or pauses.until > now();

-- What is named: exactly one of a task, a queue and a flag.
create function {schema}._pgtasks_pause_subject(task text, queue text, flag text, out what text, out name text)
language plpgsql
immutable
as $$
begin
  if num_nonnulls(task, queue, flag) <> 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'name one of a task, a queue and a flag: ' || num_nonnulls(task, queue, flag) || ' are given';
  end if;
  what := case when task is not null then 'task' when queue is not null then 'queue' else 'flag' end;
  name := coalesce(task, queue, flag);
  if name = '' then
    raise exception using errcode = 'invalid_parameter_value', message = 'the name of a ' || what || ' is not empty';
  end if;
end;
$$;

-- Pauses a task, a queue or a flag from since (by default now) to until, or for lasting, or until it is resumed; given
-- weekdays, only within these windows. Returns the pause. One of the same that holds now, and is no window, is changed
-- instead of beginning another one beside it.
create function {schema}.pgtasks_pause(
  task text = null,
  queue text = null,
  flag text = null,
  since timestamptz = null,
  until timestamptz = null,
  lasting interval = null,
  weekdays integer[] = null,
  starts time = null,
  ends time = null,
  timezone text = null,
  reason text = null,
  paused_by text = null
)
returns setof {schema}.pgtasks_paused
language plpgsql
volatile
as $$
#variable_conflict use_column
declare
  v_subject record;
  v_since timestamptz := greatest(coalesce(pgtasks_pause.since, now()), now());
  v_until timestamptz := pgtasks_pause.until;
  v_by text := coalesce(nullif(pgtasks_pause.paused_by, ''), session_user::text);
  v_id bigint;
begin
  select subject.* into v_subject from {schema}._pgtasks_pause_subject(task, queue, flag) as subject;
  if num_nonnulls(pgtasks_pause.until, pgtasks_pause.lasting) > 1 then
    raise exception using
      errcode = 'invalid_parameter_value', message = 'say until when or for how long, and not both';
  end if;
  if pgtasks_pause.lasting is not null then
    v_until := v_since + pgtasks_pause.lasting;
  end if;
  if not isfinite(v_since) or not coalesce(isfinite(v_until), true) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'infinity is no time of a pause: leave until out, and it holds until it is resumed';
  end if;
  if v_until <= v_since then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'the pause would be over before it begins: until ' || v_until || ', since ' || v_since;
  end if;
  if num_nulls(
    pgtasks_pause.weekdays, pgtasks_pause.starts, pgtasks_pause.ends, pgtasks_pause.timezone
  ) not in (0, 4) then
    raise exception using
      errcode = 'invalid_parameter_value', message = 'a window needs all of weekdays, starts, ends and timezone';
  end if;
  if cardinality(pgtasks_pause.weekdays) = 0 or not pgtasks_pause.weekdays <@ array[1, 2, 3, 4, 5, 6, 7] then
    raise exception using
      errcode = 'invalid_parameter_value', message = 'weekdays are numbers from 1, Monday, to 7, Sunday, at least one';
  end if;
  -- Not whatever `at time zone` takes: to that, 'UTC+2' is two hours west of Greenwich.
  if pgtasks_pause.timezone is not null
    and not exists (select from pg_timezone_names as known where known.name = pgtasks_pause.timezone)
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('the server knows no time zone %L: write one like Europe/Berlin', pgtasks_pause.timezone);
  end if;

  lock table {schema}._pgtasks_pause_pauses in share row exclusive mode;
  delete from {schema}._pgtasks_pause_pauses as pauses where pauses.until <= now();
  if pgtasks_pause.weekdays is null and v_since = now() then
    update {schema}._pgtasks_pause_pauses as pauses
    set until = v_until, reason = pgtasks_pause.reason, paused_by = v_by
    where pauses.what = v_subject.what
      and pauses.name = v_subject.name
      and pauses.weekdays is null
      and pauses.since <= now()
    returning pauses.id into v_id;
  end if;
  if v_id is null then
    insert into {schema}._pgtasks_pause_pauses
      (what, name, since, until, weekdays, starts, ends, timezone, reason, paused_by)
    values (
      v_subject.what,
      v_subject.name,
      v_since,
      v_until,
      (select array_agg(distinct day order by day) from unnest(pgtasks_pause.weekdays) as day),
      pgtasks_pause.starts,
      pgtasks_pause.ends,
      pgtasks_pause.timezone,
      pgtasks_pause.reason,
      v_by
    )
    returning _pgtasks_pause_pauses.id into v_id;
  end if;
  return query select paused.* from {schema}.pgtasks_paused as paused where paused.id = v_id;
end;
$$;

-- Ends the pause of a task, a queue or a flag that holds now; with windows, all of its pauses, also those to come and
-- weekly ones. Given an id, ends this pause, whatever it is. Returns those that were ended, and wakes workers.
create function {schema}.pgtasks_resume(
  task text = null,
  queue text = null,
  flag text = null,
  windows boolean = false,
  id bigint = null
)
returns setof {schema}.pgtasks_paused
language plpgsql
volatile
as $$
#variable_conflict use_column
declare
  v_subject record;
  v_ids bigint[];
begin
  lock table {schema}._pgtasks_pause_pauses in share row exclusive mode;
  delete from {schema}._pgtasks_pause_pauses as pauses where pauses.until <= now();
  if pgtasks_resume.id is not null and num_nonnulls(task, queue, flag) = 0 then
    v_ids := array[pgtasks_resume.id];
  elsif pgtasks_resume.id is not null then
    raise exception using
      errcode = 'invalid_parameter_value', message = 'say what is to be resumed by a name or by an id, and not both';
  else
    select subject.* into v_subject from {schema}._pgtasks_pause_subject(task, queue, flag) as subject;
    v_ids := array(
      select pauses.id
      from {schema}._pgtasks_pause_pauses as pauses
      where pauses.what = v_subject.what
        and pauses.name = v_subject.name
        and (pgtasks_resume.windows or (pauses.weekdays is null and pauses.since <= now()))
    );
  end if;

  return query select paused.* from {schema}.pgtasks_paused as paused where paused.id = any(v_ids) order by paused.id;
  if found then
    delete from {schema}._pgtasks_pause_pauses as pauses where pauses.id = any(v_ids);
    -- So many that all processes look which have room: how many jobs have waited is not known.
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', 1000)::text);
  end if;
end;
$$;
