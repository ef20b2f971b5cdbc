select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags,
    known.task, known.queue_name
from
    {gw}._pgtasks_timetables as known,
    {gw}.pgtasks_run_timetable(known.id) as job
where known.id = $1::text
