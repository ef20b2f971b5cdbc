select
    unnest({gw}._pgtasks_finish_successes($1::text, $9::text::bigint[], $10::text::bigint[])), 'left'
union all
select
    id, state
from
    {gw}._pgtasks_finish_jobs(
        $1::text, $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::double precision[], $7::json[],
        $8::boolean[], wait_for_locks => false
    )
