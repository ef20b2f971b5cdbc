-- Makes the names of a long transaction's first batch known before it: others that register them would have to wait for it.
select
    {gw}._pgtasks_task_ids($1::text[], register => true), {gw}._pgtasks_queue_ids($2::text[], register => true)
