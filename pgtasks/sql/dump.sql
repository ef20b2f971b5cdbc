-- What a fresh install leaves, read from the catalogs. Not a script: `pgtasks migrate --sql` prints that.
-- Written by `python -m tests.sql.dump`, compared by the tests.

-- functions: revision 1, digest dd6e537101e4edf5

sequence job_queues_id_seq

sequence jobs_id_seq1

sequence tasks_id_seq

table _pgtasks_cancellations
  job_id bigint not null
  locked_by text
  locked_at timestamp with time zone not null
  reason text
  requested_at timestamp with time zone not null default now()
  constraint _pgtasks_cancellations_pkey PRIMARY KEY (job_id)
  CREATE UNIQUE INDEX _pgtasks_cancellations_pkey ON graphile_worker._pgtasks_cancellations USING btree (job_id)
  CREATE INDEX _pgtasks_cancellations_worker_idx ON graphile_worker._pgtasks_cancellations USING btree (locked_by)

table _pgtasks_crontabs
  identifier text not null
  entry json
  recorded_at timestamp with time zone
  recorded_by text
  paused_at timestamp with time zone
  last_tick timestamp with time zone
  scheduled_at timestamp with time zone
  scheduled_by text
  last_job_id bigint
  constraint _pgtasks_crontabs_pkey PRIMARY KEY (identifier)
  CREATE UNIQUE INDEX _pgtasks_crontabs_pkey ON graphile_worker._pgtasks_crontabs USING btree (identifier)

table _pgtasks_forgotten_names
  kind text not null
  id integer not null
  name text not null
  ts timestamp with time zone not null default clock_timestamp()
  constraint _pgtasks_forgotten_names_pkey PRIMARY KEY (kind, id)
  CREATE UNIQUE INDEX _pgtasks_forgotten_names_pkey ON graphile_worker._pgtasks_forgotten_names USING btree (kind, id)
  CREATE INDEX _pgtasks_forgotten_names_task_idx ON graphile_worker._pgtasks_forgotten_names USING btree (name) WHERE (kind = 'task'::text)
  CREATE INDEX _pgtasks_forgotten_names_ts_idx ON graphile_worker._pgtasks_forgotten_names USING btree (ts)

table _pgtasks_functions
  only_row boolean not null default true
  revision integer not null
  public boolean not null
  ts timestamp with time zone not null default now()
  constraint _pgtasks_functions_only_row_check CHECK (only_row)
  constraint _pgtasks_functions_pkey PRIMARY KEY (only_row)
  CREATE UNIQUE INDEX _pgtasks_functions_pkey ON graphile_worker._pgtasks_functions USING btree (only_row)

table _pgtasks_interruptions
  job_id bigint not null
  revision integer not null
  attempts smallint not null
  interruptions integer not null default 1
  ts timestamp with time zone not null default now()
  constraint _pgtasks_interruptions_pkey PRIMARY KEY (job_id)
  CREATE UNIQUE INDEX _pgtasks_interruptions_pkey ON graphile_worker._pgtasks_interruptions USING btree (job_id)

table _pgtasks_key_locks unlogged
  key_hash bigint not null
  constraint _pgtasks_key_locks_pkey PRIMARY KEY (key_hash)
  CREATE UNIQUE INDEX _pgtasks_key_locks_pkey ON graphile_worker._pgtasks_key_locks USING btree (key_hash)

table _pgtasks_migrations
  id integer not null
  name text not null
  ts timestamp with time zone not null default now()
  breaking boolean not null default false
  adopted boolean not null default false
  constraint _pgtasks_migrations_pkey PRIMARY KEY (id)
  CREATE UNIQUE INDEX _pgtasks_migrations_pkey ON graphile_worker._pgtasks_migrations USING btree (id)

table _pgtasks_plugin_migrations
  plugin text not null
  number integer not null
  ts timestamp with time zone not null default now()
  constraint _pgtasks_plugin_migrations_pkey PRIMARY KEY (plugin, number)
  CREATE UNIQUE INDEX _pgtasks_plugin_migrations_pkey ON graphile_worker._pgtasks_plugin_migrations USING btree (plugin, number)

table _pgtasks_progress unlogged
  job_id bigint not null
  worker_id text not null
  locked_at timestamp with time zone not null
  attempt smallint not null
  done double precision not null
  total double precision
  note text
  updated_at timestamp with time zone not null default now()
  constraint _pgtasks_progress_pkey PRIMARY KEY (job_id)
  CREATE UNIQUE INDEX _pgtasks_progress_pkey ON graphile_worker._pgtasks_progress USING btree (job_id)

table _pgtasks_results
  job_id bigint not null
  task text
  state text not null
  value json
  error text
  finished_at timestamp with time zone not null default now()
  expires_at timestamp with time zone not null
  constraint _pgtasks_results_pkey PRIMARY KEY (job_id)
  constraint _pgtasks_results_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text])))
  CREATE INDEX _pgtasks_results_expires_at_idx ON graphile_worker._pgtasks_results USING btree (expires_at)
  CREATE UNIQUE INDEX _pgtasks_results_pkey ON graphile_worker._pgtasks_results USING btree (job_id)

table _pgtasks_staged_specs unlogged
  call_id uuid not null
  batch integer not null
  common json not null
  each json not null
  payloads json not null
  constraint _pgtasks_staged_specs_pkey PRIMARY KEY (call_id, batch)
  CREATE UNIQUE INDEX _pgtasks_staged_specs_pkey ON graphile_worker._pgtasks_staged_specs USING btree (call_id, batch)

table _pgtasks_timetables
  id text not null
  task text not null
  schedule text not null
  timezone text not null
  payload json
  queue_name text
  max_attempts smallint
  job_key text
  priority smallint
  flags text[]
  job_key_mode text
  backfill interval not null
  paused boolean not null default false
  settled_until timestamp with time zone not null
  next_at timestamp with time zone
  error text
  last_at timestamp with time zone
  scheduled_at timestamp with time zone
  scheduled_by text
  created_at timestamp with time zone not null default now()
  updated_at timestamp with time zone not null default now()
  constraint _pgtasks_timetables_backfill_check CHECK ((backfill >= '00:00:00'::interval))
  constraint _pgtasks_timetables_id_check CHECK (((length(id) >= 1) AND (length(id) <= 512)))
  constraint _pgtasks_timetables_job_key_check CHECK (((length(job_key) >= 1) AND (length(job_key) <= 512)))
  constraint _pgtasks_timetables_job_key_mode_check CHECK ((job_key_mode = ANY (ARRAY['replace'::text, 'preserve_run_at'::text, 'unsafe_dedupe'::text])))
  constraint _pgtasks_timetables_max_attempts_check CHECK ((max_attempts >= 1))
  constraint _pgtasks_timetables_next_at_check CHECK (isfinite(next_at))
  constraint _pgtasks_timetables_payload_check CHECK ((json_typeof(payload) = 'object'::text))
  constraint _pgtasks_timetables_pkey PRIMARY KEY (id)
  constraint _pgtasks_timetables_queue_name_check CHECK ((length(queue_name) <= 128))
  constraint _pgtasks_timetables_settled_until_check CHECK (isfinite(settled_until))
  constraint _pgtasks_timetables_task_check CHECK (((length(task) >= 1) AND (length(task) <= 128)))
  CREATE INDEX _pgtasks_timetables_next_at_idx ON graphile_worker._pgtasks_timetables USING btree (next_at) WHERE ((next_at IS NOT NULL) AND (NOT paused))
  CREATE UNIQUE INDEX _pgtasks_timetables_pkey ON graphile_worker._pgtasks_timetables USING btree (id)
  CREATE INDEX _pgtasks_timetables_unplanned_idx ON graphile_worker._pgtasks_timetables USING btree (id) WHERE ((next_at IS NULL) AND (error IS NULL) AND (NOT paused))

table _pgtasks_waits unlogged
  job_id bigint not null
  waiter_id uuid not null
  until timestamp with time zone not null
  constraint _pgtasks_waits_pkey PRIMARY KEY (job_id, waiter_id)
  CREATE UNIQUE INDEX _pgtasks_waits_pkey ON graphile_worker._pgtasks_waits USING btree (job_id, waiter_id)

table _pgtasks_workers
  id text not null
  host_id text
  host_name text
  pid integer
  version text
  started_at timestamp with time zone not null default now()
  heartbeat_at timestamp with time zone not null default now()
  running integer not null default 0
  succeeded bigint not null default 0
  failed bigint not null default 0
  retired_at timestamp with time zone
  released_at timestamp with time zone
  constraint _pgtasks_workers_pkey PRIMARY KEY (id)
  CREATE UNIQUE INDEX _pgtasks_workers_pkey ON graphile_worker._pgtasks_workers USING btree (id)

table _private_job_queues with row level security
  id integer not null generated always as identity
  queue_name text not null
  locked_at timestamp with time zone
  locked_by text
  is_available boolean not null generated always as (locked_at IS NULL) stored
  constraint job_queues_pkey1 PRIMARY KEY (id)
  constraint job_queues_queue_name_check CHECK ((length(queue_name) <= 128))
  constraint job_queues_queue_name_key UNIQUE (queue_name)
  CREATE UNIQUE INDEX job_queues_pkey1 ON graphile_worker._private_job_queues USING btree (id)
  CREATE UNIQUE INDEX job_queues_queue_name_key ON graphile_worker._private_job_queues USING btree (queue_name)
  CREATE TRIGGER _pgtasks_remember_queues AFTER DELETE ON graphile_worker._private_job_queues REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION graphile_worker._pgtasks_remember_names('queue', 'queue_name')

table _private_jobs with row level security
  id bigint not null generated always as identity
  job_queue_id integer
  task_id integer not null
  payload json not null default '{}'::json
  priority smallint not null default 0
  run_at timestamp with time zone not null default now()
  attempts smallint not null default 0
  max_attempts smallint not null default 25
  last_error text
  created_at timestamp with time zone not null default now()
  updated_at timestamp with time zone not null default now()
  key text
  locked_at timestamp with time zone
  locked_by text
  revision integer not null default 0
  flags jsonb
  is_available boolean not null generated always as ((locked_at IS NULL) AND (attempts < max_attempts)) stored
  constraint jobs_key_check CHECK (((length(key) > 0) AND (length(key) <= 512)))
  constraint jobs_key_key1 UNIQUE (key)
  constraint jobs_max_attempts_check CHECK ((max_attempts >= 1))
  constraint jobs_pkey1 PRIMARY KEY (id)
  CREATE INDEX _pgtasks_jobs_failed_idx ON graphile_worker._private_jobs USING btree (id) INCLUDE (task_id, job_queue_id) WHERE ((locked_at IS NULL) AND (attempts >= max_attempts))
  CREATE INDEX _pgtasks_jobs_locked_idx ON graphile_worker._private_jobs USING btree (locked_by) WHERE (locked_at >= '-infinity'::timestamp with time zone)
  CREATE INDEX _pgtasks_jobs_queue_heads_idx ON graphile_worker._private_jobs USING btree (job_queue_id, priority, run_at, id) WHERE (is_available AND (job_queue_id IS NOT NULL))
  CREATE INDEX _pgtasks_jobs_queued_idx ON graphile_worker._private_jobs USING btree (priority, run_at, id) INCLUDE (task_id, job_queue_id) WHERE (is_available AND (job_queue_id IS NOT NULL) AND (priority >= '-32768'::integer))
  CREATE INDEX _pgtasks_jobs_queued_task_idx ON graphile_worker._private_jobs USING btree (task_id, priority, run_at, id) INCLUDE (job_queue_id) WHERE (is_available AND (job_queue_id IS NOT NULL) AND (task_id >= '-2147483648'::integer))
  CREATE INDEX _pgtasks_jobs_ready_idx ON graphile_worker._private_jobs USING btree (priority, run_at, id) INCLUDE (task_id) WHERE (is_available AND (job_queue_id IS NULL) AND (priority >= '-32768'::integer))
  CREATE INDEX _pgtasks_jobs_ready_kind_idx ON graphile_worker._private_jobs USING btree (task_id, COALESCE(jsonb_hash_extended( CASE WHEN (flags @? 'strict $?(@.type() == "object").keyvalue()."key"?(@ starts with "@")'::jsonpath) THEN jsonb_path_query_array(flags, '$.keyvalue()."key"?(!(@ starts with "@"))'::jsonpath) ELSE flags END, (0)::bigint), (0)::bigint), priority, run_at, id) WHERE (is_available AND (job_queue_id IS NULL))
  CREATE UNIQUE INDEX jobs_key_key1 ON graphile_worker._private_jobs USING btree (key) WITH (deduplicate_items=off)
  CREATE INDEX jobs_main_index ON graphile_worker._private_jobs USING btree (priority, run_at) INCLUDE (id, task_id, job_queue_id) WHERE (is_available = true)
  CREATE INDEX jobs_no_queue_index ON graphile_worker._private_jobs USING btree (priority, run_at) INCLUDE (id, task_id) WHERE ((is_available = true) AND (job_queue_id IS NULL))
  CREATE UNIQUE INDEX jobs_pkey1 ON graphile_worker._private_jobs USING btree (id)

table _private_known_crontabs with row level security
  identifier text not null
  known_since timestamp with time zone not null
  last_execution timestamp with time zone
  constraint known_crontabs_pkey PRIMARY KEY (identifier)
  CREATE UNIQUE INDEX known_crontabs_pkey ON graphile_worker._private_known_crontabs USING btree (identifier)

table _private_tasks with row level security
  id integer not null generated always as identity
  identifier text not null
  constraint tasks_identifier_check CHECK ((length(identifier) <= 128))
  constraint tasks_identifier_key UNIQUE (identifier)
  constraint tasks_pkey PRIMARY KEY (id)
  CREATE UNIQUE INDEX tasks_identifier_key ON graphile_worker._private_tasks USING btree (identifier)
  CREATE UNIQUE INDEX tasks_pkey ON graphile_worker._private_tasks USING btree (id)
  CREATE TRIGGER _pgtasks_remember_tasks AFTER DELETE ON graphile_worker._private_tasks REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION graphile_worker._pgtasks_remember_names('task', 'identifier')

table migrations
  id integer not null
  ts timestamp with time zone not null default now()
  breaking boolean not null default false
  constraint migrations_pkey PRIMARY KEY (id)
  CREATE UNIQUE INDEX migrations_pkey ON graphile_worker.migrations USING btree (id)

type job_spec
  identifier text
  payload json
  queue_name text
  run_at timestamp with time zone
  max_attempts smallint
  job_key text
  priority smallint
  flags text[]

view jobs
  id bigint
  queue_name text
  task_identifier text
  priority smallint
  run_at timestamp with time zone
  attempts smallint
  max_attempts smallint
  last_error text
  created_at timestamp with time zone
  updated_at timestamp with time zone
  key text
  locked_at timestamp with time zone
  locked_by text
  revision integer
  flags jsonb
  SELECT jobs.id, job_queues.queue_name, tasks.identifier AS task_identifier, jobs.priority, jobs.run_at, jobs.attempts, jobs.max_attempts, jobs.last_error, jobs.created_at, jobs.updated_at, jobs.key, jobs.locked_at, jobs.locked_by, jobs.revision, jobs.flags FROM ((graphile_worker._private_jobs jobs JOIN graphile_worker._private_tasks tasks ON ((tasks.id = jobs.task_id))) LEFT JOIN graphile_worker._private_job_queues job_queues ON ((job_queues.id = jobs.job_queue_id)));

function _pgtasks_add_job(identifier text, payload json, queue_name text, run_at timestamp with time zone, max_attempts integer, job_key text, priority integer, flags text[], job_key_mode text, notify boolean)
  returns graphile_worker._private_jobs
  language plpgsql
  volatile

function _pgtasks_add_job_of_timetable(timetable graphile_worker._pgtasks_timetables, moment timestamp with time zone, backfilled boolean, notify boolean)
  returns graphile_worker._private_jobs
  language sql
  volatile

function _pgtasks_add_specs(specs graphile_worker.job_spec[], job_key_preserve_run_at boolean, announce bigint)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile

function _pgtasks_add_unkeyed(common json, each json, payloads json, register boolean, with_ids boolean, announce bigint, OUT added bigint, OUT ids bigint[])
  returns record
  language plpgsql
  volatile

function _pgtasks_advance_queues(worker_id text, task_identifiers text[], forbidden_flags text[], ids bigint[], locked_ats bigint[])
  returns TABLE(ended_id bigint, ended boolean, id bigint, task text, queue_name text, payload json, priority smallint, run_at timestamp with time zone, attempts smallint, max_attempts smallint, last_error text, created_at timestamp with time zone, updated_at timestamp with time zone, key text, locked_at timestamp with time zone, locked_by text, revision integer, flags jsonb)
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_sort=off
  set enable_incremental_sort=off
  set jit=off

function _pgtasks_begin_claim(worker_id text)
  returns void
  language plpgsql
  volatile

function _pgtasks_cancel_jobs(job_ids bigint[], reason text DEFAULT NULL::text)
  returns TABLE(state text, job graphile_worker._private_jobs)
  language plpgsql
  volatile

function _pgtasks_claim_jobs(worker_id text, task_identifiers text[], forbidden_flags text[], max_jobs integer, free_slots integer, mark_priorities smallint[] DEFAULT NULL::smallint[], mark_micros bigint[] DEFAULT NULL::bigint[], mark_ids bigint[] DEFAULT NULL::bigint[], forbidden_queues text[] DEFAULT NULL::text[])
  returns TABLE(id bigint, task text, queue_name text, payload json, priority smallint, run_at timestamp with time zone, attempts smallint, max_attempts smallint, last_error text, created_at timestamp with time zone, updated_at timestamp with time zone, key text, locked_at timestamp with time zone, locked_by text, revision integer, flags jsonb, look_seconds double precision)
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_sort=off
  set enable_incremental_sort=off
  set enable_mergejoin=off
  set enable_hashjoin=off
  set jit=off

function _pgtasks_cleanup(operations text[], max_rows integer, OUT deleted_tasks bigint, OUT deleted_queues bigint, OUT deleted_jobs bigint, OUT more boolean, OUT busy text[])
  returns record
  language plpgsql
  volatile
  set lock_timeout=200ms
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_hashjoin=off
  set enable_mergejoin=off
  set jit=off

function _pgtasks_clear_stale_locks(job_ids bigint[])
  returns bigint[]
  language plpgsql
  volatile

function _pgtasks_concat_json_arrays(a json, b json)
  returns json
  language sql
  immutable

function _pgtasks_delete_held(worker_id text, ids bigint[], locked_ats bigint[], OUT ended_ids bigint[], OUT queue_ids integer[], OUT ended_locked_ats timestamp with time zone[])
  returns record
  language plpgsql
  volatile

function _pgtasks_due_timetables(moment timestamp with time zone, left_out text[], max_rows integer)
  returns TABLE(found_at timestamp with time zone, following_at timestamp with time zone, id text, task text, schedule text, timezone text, backfill double precision, settled_until timestamp with time zone, next_at timestamp with time zone)
  language plpgsql
  volatile
  set enable_seqscan=off
  set enable_bitmapscan=off
  set jit=off

function _pgtasks_ended_jobs(ids bigint[], created_ats timestamp with time zone[])
  returns TABLE(id bigint, state text, task text, value json, error text)
  language plpgsql
  stable
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off

function _pgtasks_find_cancellations(worker_ids text[])
  returns TABLE(worker_id text, job_id bigint, locked_at timestamp with time zone, task text, reason text)
  language sql
  stable
  set enable_seqscan=off
  set jit=off

function _pgtasks_find_jobs(task_identifier text, queue_name text, state text, job_key text, flag text, worker_id text, max_jobs integer, before_id bigint, look_at integer, OUT job_ids bigint[], OUT next_id bigint)
  returns record
  language plpgsql
  stable
  set enable_seqscan=off
  set jit=off

function _pgtasks_find_queues(way integer, task_ids integer[], forbidden_flags text[], look_at integer, before_priority smallint, before_run_at timestamp with time zone, before_id bigint, mark_priorities smallint[], mark_run_ats timestamp with time zone[], mark_ids bigint[], forbidden_queue_ids integer[] DEFAULT NULL::integer[], OUT queue_ids integer[], OUT seen bigint)
  returns record
  language plpgsql
  volatile

function _pgtasks_find_queues_by_task(task_ids integer[], forbidden_flags text[], look_at integer, OUT queue_ids integer[], OUT seen bigint)
  returns record
  language plpgsql
  volatile

function _pgtasks_find_queues_in_order(task_ids integer[], forbidden_flags text[], look_at integer, before_priority smallint, before_run_at timestamp with time zone, before_id bigint, mark_priorities smallint[], mark_run_ats timestamp with time zone[], mark_ids bigint[], OUT queue_ids integer[], OUT seen bigint)
  returns record
  language plpgsql
  volatile

function _pgtasks_find_queues_in_turn(task_ids integer[], forbidden_flags text[], max_queues integer, forbidden_queue_ids integer[] DEFAULT NULL::integer[])
  returns integer[]
  language plpgsql
  volatile

function _pgtasks_find_ready_jobs(task_ids integer[], forbidden_flags text[], max_jobs integer)
  returns TABLE(place tid, priority smallint, run_at timestamp with time zone, id bigint)
  language plpgsql
  volatile

function _pgtasks_find_unused_queues(among integer[], max_queues integer)
  returns integer[]
  language plpgsql
  volatile

function _pgtasks_find_unused_tasks(among integer[], max_tasks integer)
  returns integer[]
  language plpgsql
  volatile

function _pgtasks_finish_jobs(worker_id text, ids bigint[], locked_ats timestamp with time zone[], outcomes text[], last_errors text[], delays double precision[], payloads json[], had_keys boolean[], wait_for_locks boolean DEFAULT true, run_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[])
  returns TABLE(id bigint, state text)
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off

function _pgtasks_finish_successes(worker_id text, ids bigint[], locked_ats bigint[])
  returns bigint[]
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off

function _pgtasks_flags_object(flags text[])
  returns jsonb
  language sql
  immutable

function _pgtasks_force_unlock(worker_ids text[])
  returns TABLE(worker_id text, jobs bigint, oldest_lock timestamp with time zone)
  language plpgsql
  volatile
  set enable_seqscan=off
  set jit=off

function _pgtasks_forgotten_task(identifier text)
  returns integer
  language sql
  stable
  security definer
  set search_path=pg_catalog, pg_temp

function _pgtasks_free_queues(worker_id text, queue_ids integer[], locked_ats timestamp with time zone[])
  returns void
  language plpgsql
  volatile

function _pgtasks_has_runnable(task_identifiers text[], forbidden_flags text[], forbidden_queues text[] DEFAULT NULL::text[])
  returns boolean
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_sort=off
  set enable_incremental_sort=off
  set enable_mergejoin=off
  set enable_hashjoin=off
  set jit=off

function _pgtasks_heartbeat(host_id text, host_name text, version text, worker_ids text[], pids integer[], running integer[], succeeded bigint[], failed bigint[], stale_after double precision, OUT evicted_ids text[], OUT dead_ids text[], OUT silence double precision)
  returns record
  language plpgsql
  volatile

function _pgtasks_hold_names(task_identifiers text[], queue_names text[])
  returns void
  language plpgsql
  volatile

function _pgtasks_kind_hash(flags jsonb)
  returns bigint
  language sql
  immutable

function _pgtasks_list_progress(job_ids bigint[], max_rows integer)
  returns TABLE(job_id bigint, worker_id text, attempt smallint, done double precision, total double precision, note text, updated_at timestamp with time zone, age double precision)
  language plpgsql
  stable
  set enable_seqscan=off
  set enable_hashjoin=off
  set enable_mergejoin=off
  set jit=off

function _pgtasks_list_queues(max_queues integer, after_name text, count_limit integer)
  returns TABLE(queue_name text, locked_by text, locked_at timestamp with time zone, waiting bigint)
  language sql
  stable
  set enable_seqscan=off
  set enable_bitmapscan=off
  set jit=off

function _pgtasks_list_running(max_jobs integer, look_at integer)
  returns TABLE(id bigint, task text, queue_name text, attempts smallint, max_attempts smallint, locked_by text, locked_at timestamp with time zone, age double precision)
  language sql
  stable
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_hashjoin=off
  set enable_mergejoin=off
  set jit=off

function _pgtasks_list_tasks(max_tasks integer, after_name text, count_limit integer, look_at integer)
  returns TABLE(identifier text, waiting bigint, running bigint, failed bigint)
  language sql
  stable
  set enable_seqscan=off
  set enable_bitmapscan=off
  set jit=off

function _pgtasks_list_workers(max_workers integer, count_limit integer)
  returns TABLE(worker_id text, jobs bigint, oldest_lock timestamp with time zone)
  language sql
  stable
  set enable_seqscan=off
  set enable_bitmapscan=off
  set jit=off

function _pgtasks_lock_idle_jobs(job_ids bigint[])
  returns bigint[]
  language sql
  volatile

function _pgtasks_lock_job_keys(job_keys text[])
  returns void
  language plpgsql
  volatile

function _pgtasks_lock_queue_heads(task_ids integer[], forbidden_flags text[], max_heads integer, before_priority smallint, before_run_at timestamp with time zone, before_id bigint, mark_priorities smallint[], mark_run_ats timestamp with time zone[], mark_ids bigint[], forbidden_queue_ids integer[] DEFAULT NULL::integer[], OUT places tid[], OUT queue_ids integer[], OUT last_attempts boolean, OUT contended boolean)
  returns record
  language plpgsql
  volatile

function _pgtasks_lock_ready_jobs(task_ids integer[], forbidden_flags text[], max_jobs integer, mark_priorities smallint[], mark_run_ats timestamp with time zone[], mark_ids bigint[], OUT places tid[], OUT last_attempts boolean, OUT contended boolean)
  returns record
  language plpgsql
  volatile

function _pgtasks_pause_crontabs(identifiers text[], pause boolean)
  returns SETOF text
  language plpgsql
  volatile

function _pgtasks_put_distinct_jobs(specs graphile_worker.job_spec[], job_key_preserve_run_at boolean)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile
  set plan_cache_mode=auto

function _pgtasks_put_jobs_in_turn(specs graphile_worker.job_spec[], job_key_preserve_run_at boolean)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile
  set plan_cache_mode=auto

function _pgtasks_put_keyed_job(task_id integer, payload json, job_queue_id integer, run_at timestamp with time zone, max_attempts smallint, job_key text, priority smallint, flags jsonb, job_key_mode text)
  returns graphile_worker._private_jobs
  language plpgsql
  volatile

function _pgtasks_queue_ids(queue_names text[], register boolean)
  returns integer[]
  language plpgsql
  volatile

function _pgtasks_read_specs(common json, each json, payloads json)
  returns graphile_worker.job_spec[]
  language sql
  stable

function _pgtasks_record_crontabs(host text, clock timestamp with time zone, identifiers text[], entries text[])
  returns TABLE(found_at timestamp with time zone, identifier text, known_since timestamp with time zone, last_execution timestamp with time zone)
  language plpgsql
  volatile

function _pgtasks_register_queue(queue_name text)
  returns integer
  language plpgsql
  volatile

function _pgtasks_register_task(identifier text)
  returns integer
  language plpgsql
  volatile

function _pgtasks_register_worker(worker_id text, host_id text, host_name text, pid integer, version text)
  returns void
  language sql
  volatile

function _pgtasks_release_worker(worker_id text, keep_ids bigint[] DEFAULT '{}'::bigint[], retire boolean DEFAULT false, max_interruptions integer DEFAULT NULL::integer, stale_after double precision DEFAULT NULL::double precision)
  returns TABLE(id bigint, state text)
  language plpgsql
  volatile

function _pgtasks_remember_names()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path=pg_catalog, pg_temp

function _pgtasks_report_progress(worker_id text, ended_ids bigint[], ids bigint[], locked_ats timestamp with time zone[], attempts smallint[], done double precision[], total double precision[], notes text[])
  returns SETOF bigint
  language plpgsql
  volatile
  set plan_cache_mode=force_generic_plan
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_hashjoin=off
  set enable_mergejoin=off
  set lock_timeout=500ms

function _pgtasks_resolve_specs(specs graphile_worker.job_spec[])
  returns TABLE(spec_position bigint, job_key text, task_id integer, job_queue_id integer, payload json, run_at timestamp with time zone, max_attempts smallint, priority smallint, flags jsonb)
  language sql
  volatile

function _pgtasks_restore_names(task_identifiers text[], max_age interval, OUT restored_tasks bigint, OUT restored_queues bigint, OUT renumbered_jobs bigint)
  returns record
  language plpgsql
  volatile
  set enable_seqscan=off
  set jit=off

function _pgtasks_schedule_crontab(host text, clock timestamp with time zone, ticks timestamp with time zone[], identifiers text[], wanted boolean[], tasks text[], payloads text[], queue_names text[], run_at timestamp with time zone[], max_attempts integer[], job_keys text[], priorities integer[], flags text[], job_key_modes text[])
  returns TABLE(found_at timestamp with time zone, index integer, state text, job_id bigint)
  language plpgsql
  volatile

function _pgtasks_settle_timetables(host text, found_at timestamp with time zone, ids text[], schedules text[], timezones text[], settled_before timestamp with time zone[], settled_until timestamp with time zone[], next_at timestamp with time zone[], errors text[], counts integer[], moments timestamp with time zone[])
  returns SETOF text
  language plpgsql
  volatile

function _pgtasks_survey(look_at integer, max_priorities integer, max_names integer)
  returns TABLE(kind text, name text, ready bigint, scheduled bigint, running bigint, failed bigint)
  language sql
  stable
  set enable_seqscan=off
  set enable_bitmapscan=off
  set enable_hashjoin=off
  set enable_mergejoin=off
  set jit=off

function _pgtasks_sweep_cancellations(OUT removed_jobs bigint)
  returns bigint
  language plpgsql
  volatile

function _pgtasks_sweep_stale_locks(OUT unlocked_jobs bigint, OUT unlocked_queues bigint, OUT restored_queues bigint)
  returns record
  language plpgsql
  volatile

function _pgtasks_take_staged_specs(call_id uuid)
  returns graphile_worker.job_spec[]
  language plpgsql
  volatile

function _pgtasks_task_ids(identifiers text[], register boolean)
  returns integer[]
  language plpgsql
  volatile

function _pgtasks_tell_waiters(job_ids bigint[])
  returns void
  language plpgsql
  volatile

function add_job(identifier text, payload json DEFAULT NULL::json, queue_name text DEFAULT NULL::text, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, max_attempts integer DEFAULT NULL::integer, job_key text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, flags text[] DEFAULT NULL::text[], job_key_mode text DEFAULT 'replace'::text)
  returns graphile_worker._private_jobs
  language plpgsql
  volatile

function add_jobs(specs graphile_worker.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile

function complete_jobs(job_ids bigint[])
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile

function force_unlock_workers(worker_ids text[])
  returns void
  language plpgsql
  volatile

function permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL::text)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile

function pgtasks_pause_timetable(id text)
  returns boolean
  language plpgsql
  volatile

function pgtasks_put_timetable(id text, task text, schedule text, timezone text DEFAULT 'UTC'::text, payload json DEFAULT NULL::json, queue_name text DEFAULT NULL::text, max_attempts integer DEFAULT NULL::integer, job_key text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, flags text[] DEFAULT NULL::text[], job_key_mode text DEFAULT NULL::text, backfill interval DEFAULT NULL::interval)
  returns graphile_worker._pgtasks_timetables
  language plpgsql
  volatile

function pgtasks_remove_timetable(id text)
  returns boolean
  language plpgsql
  volatile

function pgtasks_resume_timetable(id text)
  returns boolean
  language plpgsql
  volatile

function pgtasks_run_timetable(id text)
  returns graphile_worker._private_jobs
  language plpgsql
  volatile

function remove_job(job_key text)
  returns graphile_worker._private_jobs
  language plpgsql
  volatile
  strict

function reschedule_jobs(job_ids bigint[], run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT NULL::integer, attempts integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer)
  returns SETOF graphile_worker._private_jobs
  language plpgsql
  volatile
