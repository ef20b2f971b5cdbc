-- The same as add_specs, for who does not want to see the jobs.
select
    count(*)
from
    {gw}._pgtasks_add_specs(
        {gw}._pgtasks_read_specs($1::json, $2::json, $3::json),
        job_key_preserve_run_at => $4::boolean,
        announce => $5::bigint
    ) as job
