select id, state
from
    {gw}._pgtasks_release_worker(
        $1::text, retire => true, max_interruptions => $2::integer, stale_after => $3::double precision
    )
