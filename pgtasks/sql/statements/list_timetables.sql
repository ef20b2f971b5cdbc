select
    known.id, known.task, known.schedule, known.timezone, known.payload, known.queue_name, known.max_attempts,
    known.job_key, known.priority, known.flags, known.job_key_mode,
    extract(epoch from known.backfill)::double precision, known.paused, known.settled_until, known.next_at, known.error,
    known.last_at, known.scheduled_at, known.scheduled_by, known.created_at, known.updated_at
from
    {gw}._pgtasks_timetables as known
where
    ($1::text[] is null or known.id = any($1::text[]))
    and ($2::text is null or known.task = $2::text)
    and ($3::text is null or known.id > $3::text)
order by known.id
limit $4::integer
