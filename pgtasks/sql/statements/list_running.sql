-- With how far each has come, if it says so.
with oldest as materialized (
    select
        job.*
    from
        {gw}._pgtasks_list_running($1::integer, $2::integer) as job
)
select
    oldest.id, oldest.task, oldest.queue_name, oldest.attempts, oldest.max_attempts, oldest.locked_by, oldest.locked_at,
    oldest.age, known.attempt, known.done, known.total, known.note, known.updated_at, known.age
from
    oldest
    left join {gw}._pgtasks_list_progress(array(select oldest.id from oldest), $1::integer) as known
        on known.job_id = oldest.id
order by oldest.locked_at, oldest.id
