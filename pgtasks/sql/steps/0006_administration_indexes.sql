-- breaking: no

-- Who holds what: there are few locked jobs in a table of many, and no other index leads to them. The condition says
-- `is not null` in a way that has to be written out by who wants to use the index. `locked_at = ...` would imply the plain
-- one, and finishing jobs would then be planned as a walk over all that the worker holds or ever held since the last
-- vacuum, since at the time of the statistics that was nothing.
create index _pgtasks_jobs_locked_idx on {gw}._private_jobs (locked_by) where locked_at >= '-infinity';
-- The permanently failed, newest or oldest first. A row enters it once in its life, if ever.
create index _pgtasks_jobs_failed_idx on {gw}._private_jobs (id) include (task_id, job_queue_id)
  where locked_at is null and attempts >= max_attempts;
