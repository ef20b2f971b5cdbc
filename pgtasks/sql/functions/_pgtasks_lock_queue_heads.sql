-- Locks queues that are free and the first eligible job of each, and returns the places of the jobs' rows and the queues.
-- `contended`: there were such queues, and others were quicker.
--
-- A queue's row is locked first, and its first job looked for and locked by a later statement: that sees the jobs as
-- they are once nobody else can claim from the queue. If that job is held by someone, the queue is left alone, and others
-- are tried. None is tried twice: a better job may have come since, and would be a second one of its queue.
--
-- Queues are looked for in three ways (_pgtasks_find_queues), each taken only if the one before it ended in the middle of
-- more jobs than it looks at and brought few or none. The last is repeated, and finds more, for as long as the heads of
-- all that it has found are held.
--
-- Queues of forbidden_queue_ids count as tried, so that they are treated as if somebody else had locked them.
--
-- Given `before`, queues whose first jobs are known to come after that job are left out. Lateral joins keep the order of
-- what is on their left, which lets `limit` end a walk: see _pgtasks_lock_ready_jobs.
create or replace function {gw}._pgtasks_lock_queue_heads(
  task_ids integer[],
  forbidden_flags text[],
  max_heads integer,
  before_priority smallint,
  before_run_at timestamptz,
  before_id bigint,
  mark_priorities smallint[],
  mark_run_ats timestamptz[],
  mark_ids bigint[],
  forbidden_queue_ids integer[] = null,
  out places tid[],
  out queue_ids integer[],
  out last_attempts boolean,
  out contended boolean
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := coalesce(cardinality(forbidden_flags) > 0, false);
  v_way integer := 1;
  v_look_at integer := 2 * max_heads + 50;
  v_found_ids integer[];
  v_seen bigint;
  v_left_ids integer[];
  v_most integer;
  v_last bigint;
  v_locked_ids integer[];
  v_tried_ids integer[] := coalesce(forbidden_queue_ids, '{{}}');
  v_places tid[];
  v_kept_ids integer[];
  v_last_attempts boolean;
begin
  last_attempts := false;
  contended := false;
  loop
    select found.queue_ids, found.seen into v_found_ids, v_seen
    from {gw}._pgtasks_find_queues(
      v_way,
      task_ids,
      forbidden_flags,
      v_look_at,
      before_priority,
      before_run_at,
      before_id,
      mark_priorities,
      mark_run_ats,
      mark_ids,
      forbidden_queue_ids
    ) as found;

    v_left_ids := array(
      select found.id
      from unnest(v_found_ids) with ordinality as found (id, position)
      where (found.id in (select unnest(v_tried_ids))) is not true
      order by found.position
    );
    v_most := max_heads;
    loop
      select array_agg(locked.id), max(locked.position) into v_locked_ids, v_last
      from (
        select locked.id, queue.position
        from unnest(v_left_ids) with ordinality as queue (id, position)
        cross join lateral (
          select job_queues.id
          from {gw}._private_job_queues as job_queues
          where job_queues.id = queue.id and job_queues.is_available
          for update skip locked
        ) as locked
        limit v_most
      ) as locked;
      exit when v_locked_ids is null;
      v_tried_ids := v_tried_ids || v_locked_ids;

      select array_agg(locked.place), array_agg(queue.id), coalesce(bool_or(locked.is_last_attempt), false)
      into v_places, v_kept_ids, v_last_attempts
      from unnest(v_locked_ids) as queue (id)
      cross join lateral (
        select jobs.ctid as place
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.job_queue_id = queue.id
          and jobs.run_at <= now()
          and jobs.task_id = any(task_ids)
          and (not v_flags_matter or jobs.flags is null or not jobs.flags ?| forbidden_flags)
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as head
      cross join lateral (
        select jobs.ctid as place, jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt
        from {gw}._private_jobs as jobs
        where jobs.ctid = head.place
          and jobs.is_available
          and jobs.job_queue_id = queue.id
          and jobs.run_at <= now()
          and jobs.task_id = any(task_ids)
          and (not v_flags_matter or jobs.flags is null or not jobs.flags ?| forbidden_flags)
        for update skip locked
      ) as locked;

      places := places || v_places;
      queue_ids := queue_ids || v_kept_ids;
      last_attempts := last_attempts or v_last_attempts;
      exit when v_places is not null;
      v_left_ids := v_left_ids[v_last + 1:];
      v_most := 4 * v_most;
    end loop;

    if places is null then
      contended := contended or exists (
        select
        from unnest(v_found_ids) as queue (id)
        cross join lateral (
          select from {gw}._private_job_queues as job_queues
          where job_queues.id = queue.id and job_queues.is_available
          limit 1
        ) as free
        where (queue.id in (select unnest(v_tried_ids))) is not true
      );
    end if;
    exit when mark_priorities is not null or cardinality(places) * 8 >= max_heads;
    if v_way < 3 then
      exit when v_seen < v_look_at;
      v_way := v_way + 1;
    else
      exit when places is not null or cardinality(v_found_ids) < v_look_at;
      v_look_at := 10 * v_look_at;
    end if;
  end loop;
  contended := contended and places is null;
end;
$pgtasks$;
