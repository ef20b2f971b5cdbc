select
    identifier, waiting, running, failed
from
    {gw}._pgtasks_list_tasks($1::integer, $2::text, $3::integer, $4::integer)
