select
    found_at, following_at, id, task, schedule, timezone, backfill, settled_until, next_at
from
    {gw}._pgtasks_due_timetables($1::timestamptz, $2::text[], $3::integer)
