select
    count(*)
from
    {gw}._pgtasks_add_specs(
        {gw}._pgtasks_take_staged_specs($1::uuid),
        job_key_preserve_run_at => $2::boolean,
        announce => $3::bigint
    ) as job
