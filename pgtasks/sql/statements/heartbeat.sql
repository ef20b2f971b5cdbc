-- And which of the workers hold jobs that somebody has cancelled.
select
    evicted_ids, dead_ids, silence, array(select distinct worker_id from {gw}._pgtasks_find_cancellations($4::text[]))
from
    {gw}._pgtasks_heartbeat(
        $1::text, $2::text, $3::text, $4::text[], $5::integer[], $6::integer[], $7::bigint[], $8::bigint[],
        $9::double precision
    )
