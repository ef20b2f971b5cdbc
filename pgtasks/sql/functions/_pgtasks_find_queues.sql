-- Queues that may be free and have an eligible job, in claim order, found in one of three ways; and how many jobs were
-- seen, of which `look_at` or more mean that there may be others:
--   1. the queues of the first jobs of all, or of those after marks: enough unless these belong to locked queues or to
--      tasks that others have;
--   2. the queues of the first jobs of each of the tasks, for when other workers' tasks are ahead;
--   3. each queue in turn, for when much of what is ahead waits for a few locked queues.
-- Only the third way leaves out what is not free or is forbidden. Locks nothing. See the functions for each way, to which
-- the parameters belong.
create or replace function {gw}._pgtasks_find_queues(
  way integer,
  task_ids integer[],
  forbidden_flags text[],
  look_at integer,
  before_priority smallint,
  before_run_at timestamptz,
  before_id bigint,
  mark_priorities smallint[],
  mark_run_ats timestamptz[],
  mark_ids bigint[],
  forbidden_queue_ids integer[] = null,
  out queue_ids integer[],
  out seen bigint
)
language plpgsql
volatile
as $pgtasks$
begin
  if way = 1 then
    select found.queue_ids, found.seen into queue_ids, seen
    from {gw}._pgtasks_find_queues_in_order(
      task_ids,
      forbidden_flags,
      look_at,
      before_priority,
      before_run_at,
      before_id,
      mark_priorities,
      mark_run_ats,
      mark_ids
    ) as found;
  elsif way = 2 then
    select found.queue_ids, found.seen into queue_ids, seen
    from {gw}._pgtasks_find_queues_by_task(task_ids, forbidden_flags, look_at) as found;
  else
    queue_ids := {gw}._pgtasks_find_queues_in_turn(task_ids, forbidden_flags, look_at, forbidden_queue_ids);
  end if;
  seen := coalesce(seen, 0);
end;
$pgtasks$;
