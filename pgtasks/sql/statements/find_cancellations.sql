select worker_id, job_id, locked_at, task, reason from {gw}._pgtasks_find_cancellations($1::text[])
