-- breaking: no

-- A flag that begins with `@` says something about one job, such as the trace that it belongs to. Such flags make no kind,
-- or there would be as many kinds as jobs, and a look by kind would go through all of them. See _pgtasks_kind_hash.
drop index if exists {gw}._pgtasks_jobs_ready_kind_idx;
create index _pgtasks_jobs_ready_kind_idx on {gw}._private_jobs (
  task_id,
  coalesce(
    jsonb_hash_extended(
      case
        when flags @? 'strict $ ? (@.type() == "object").keyvalue().key ? (@ starts with "@")'
          then jsonb_path_query_array(flags, '$.keyvalue().key ? (!(@ starts with "@"))')
        else flags
      end,
      0
    ),
    0
  ),
  priority,
  run_at,
  id
)
  where is_available and job_queue_id is null;
