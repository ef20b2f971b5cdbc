-- breaking: no

-- What is known of crontab entries beside what Graphile Worker knows of them.
create table {gw}._pgtasks_crontabs (
  identifier text primary key,
  -- What the entry is, as the worker has it that has recorded it last; null: none of ours has it.
  entry json,
  recorded_at timestamptz,
  recorded_by text,
  -- Since when no jobs are added.
  paused_at timestamptz,
  -- The latest time for which one of our hosts has added a job, when that was done, by which, and the job.
  last_tick timestamptz,
  scheduled_at timestamptz,
  scheduled_by text,
  last_job_id bigint
) with (fillfactor = 50);
