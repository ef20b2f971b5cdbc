select
    id, state, task, value, error
from
    {gw}._pgtasks_ended_jobs($1::text::bigint[], $2::timestamptz[])
