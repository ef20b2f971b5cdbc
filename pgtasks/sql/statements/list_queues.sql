select
    queue_name, locked_by, locked_at, waiting
from
    {gw}._pgtasks_list_queues($1::integer, $2::text, $3::integer)
