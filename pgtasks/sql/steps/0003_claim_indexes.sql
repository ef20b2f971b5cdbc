-- breaking: no

-- Claim order is index order, id included: a million jobs that one transaction added share their run_at. Jobs that have a
-- queue are kept apart from those without, so that neither kind is walked in search of the other; by task, so that the
-- jobs of tasks that a worker lacks need not be walked when they are all there is at the head.
create index _pgtasks_jobs_ready_idx on {gw}._private_jobs (priority, run_at, id) include (task_id)
  where is_available and job_queue_id is null;
create index _pgtasks_jobs_ready_task_idx on {gw}._private_jobs (task_id, priority, run_at, id)
  where is_available and job_queue_id is null;
create index _pgtasks_jobs_queued_idx on {gw}._private_jobs (priority, run_at, id) include (task_id, job_queue_id)
  where is_available and job_queue_id is not null;
create index _pgtasks_jobs_queued_task_idx on {gw}._private_jobs (task_id, priority, run_at, id) include (job_queue_id)
  where is_available and job_queue_id is not null;
create index _pgtasks_jobs_queue_heads_idx on {gw}._private_jobs (job_queue_id, priority, run_at, id)
  where is_available and job_queue_id is not null;
