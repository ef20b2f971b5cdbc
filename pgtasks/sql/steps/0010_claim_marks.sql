-- breaking: no

-- Claims take up where earlier ones have got to, so these have other parameters now.
drop function if exists {gw}._pgtasks_claim_jobs(text, text[], text[], integer, integer);
drop function if exists {gw}._pgtasks_lock_ready_jobs(integer[], text[], integer);
drop function if exists {gw}._pgtasks_find_queue_heads(
  integer[], text[], integer, smallint, timestamptz, bigint
);

-- By task and set of flags, so that a worker that meets nothing else at the head passes over all jobs of a task that it
-- lacks, or of a flag that is forbidden, in one step. A hash stands for the set, 0 for none: an entry of an index has a
-- greatest length, and a set of flags has not.
drop index if exists {gw}._pgtasks_jobs_ready_task_idx;
create index _pgtasks_jobs_ready_kind_idx on {gw}._private_jobs (
  task_id, coalesce(jsonb_hash_extended(flags, 0), 0), priority, run_at, id
)
  where is_available and job_queue_id is null;

-- Which index a look goes along must not depend on statistics: where two would do, the planner takes the wrong one as
-- soon as they are out of date. So each of these has a condition, always true, that only the looks write out which are
-- meant to use it.
drop index if exists {gw}._pgtasks_jobs_ready_idx;
create index _pgtasks_jobs_ready_idx on {gw}._private_jobs (priority, run_at, id) include (task_id)
  where is_available and job_queue_id is null and priority >= -32768;
drop index if exists {gw}._pgtasks_jobs_queued_idx;
create index _pgtasks_jobs_queued_idx on {gw}._private_jobs (priority, run_at, id) include (task_id, job_queue_id)
  where is_available and job_queue_id is not null and priority >= -32768;
drop index if exists {gw}._pgtasks_jobs_queued_task_idx;
create index _pgtasks_jobs_queued_task_idx on {gw}._private_jobs (task_id, priority, run_at, id) include (job_queue_id)
  where is_available and job_queue_id is not null and task_id >= -2147483648;
