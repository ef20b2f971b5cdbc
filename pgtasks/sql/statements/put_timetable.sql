select
    known.id, known.task, known.schedule, known.timezone, known.payload, known.queue_name, known.max_attempts,
    known.job_key, known.priority, known.flags, known.job_key_mode,
    extract(epoch from known.backfill)::double precision, known.paused, known.settled_until, known.next_at, known.error,
    known.last_at, known.scheduled_at, known.scheduled_by, known.created_at, known.updated_at
from
    {gw}.pgtasks_put_timetable(
        $1::text, $2::text, $3::text, $4::text, $5::json, $6::text, $7::integer, $8::text, $9::integer, $10::text[],
        $11::text, make_interval(secs => $12::double precision)
    ) as known
