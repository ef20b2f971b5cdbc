select
    kind, name, ready, scheduled, running, failed
from
    {gw}._pgtasks_survey($1::integer, $2::integer, $3::integer)
