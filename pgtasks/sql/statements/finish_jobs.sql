-- Successes that can be dealt with quickly, and other ends.
select
    unnest({gw}._pgtasks_finish_successes($1::text, $2::text::bigint[], $3::text::bigint[])), 'left'
union all
select
    id, state
from
    {gw}._pgtasks_finish_jobs(
        $1::text, $4::bigint[], $5::timestamptz[], $6::text[], $7::text[], $8::double precision[], $9::json[],
        $10::boolean[], wait_for_locks => false, run_ats => $11::timestamptz[]
    )
