-- A job's success, written in the transaction of its own effects: no row if the claim is no longer held.
select
    id, state
from
    {gw}._pgtasks_finish_jobs(
        $1::text, array[$2::bigint], array[$3::timestamptz], array['success'], null, null, null, array[$4::boolean]
    )
