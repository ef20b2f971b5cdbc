-- The timetables whose next time has come at a moment (by default now), or has to be found out; max_rows at most. Nothing
-- is locked: whoever has found out what is to be done has _pgtasks_settle_timetables do it.
--
-- Also, in a row of its own without a timetable, what time it is, and the next time of all; so there is always one row.
create or replace function {gw}._pgtasks_due_timetables(moment timestamptz, left_out text[], max_rows integer)
returns table (
  found_at timestamptz,
  following_at timestamptz,
  id text,
  task text,
  schedule text,
  timezone text,
  backfill double precision,
  settled_until timestamptz,
  next_at timestamptz
)
language plpgsql
volatile
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $pgtasks$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(_pgtasks_due_timetables.moment, clock_timestamp());
begin
  return query
    select
      v_now,
      (
        select known.next_at
        from {gw}._pgtasks_timetables as known
        where known.next_at > v_now and not known.paused
        order by known.next_at
        limit 1
      ),
      null::text, null::text, null::text, null::text, null::double precision, null::timestamptz, null::timestamptz;
  return query
    select
      v_now, null::timestamptz, due.id, due.task, due.schedule, due.timezone,
      extract(epoch from due.backfill)::double precision, due.settled_until, due.next_at
    from (
      (
        select known.*
        from {gw}._pgtasks_timetables as known
        where known.next_at <= v_now and not known.paused and known.id <> all(left_out)
        order by known.next_at
        limit max_rows
      )
      union all
      (
        select known.*
        from {gw}._pgtasks_timetables as known
        where known.next_at is null and known.error is null and not known.paused and known.id <> all(left_out)
        order by known.id
        limit max_rows
      )
    ) as due
    limit max_rows;
end;
$pgtasks$;
