select
    job_id, worker_id, attempt, done, total, note, updated_at, age
from
    {gw}._pgtasks_list_progress($1::bigint[], $2::integer)
