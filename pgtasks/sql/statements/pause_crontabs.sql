select
    paused.identifier
from
    {gw}._pgtasks_pause_crontabs($1::text[], $2::boolean) as paused (identifier)
