delete from {gw}._pgtasks_waits as waits
where waits.waiter_id = $1::uuid and waits.job_id = any($2::text::bigint[])
returning true
