select
    deleted_tasks, deleted_queues, deleted_jobs, more, busy
from
    {gw}._pgtasks_cleanup($1::text[], $2::integer)
