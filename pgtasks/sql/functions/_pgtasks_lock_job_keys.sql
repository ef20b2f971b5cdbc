-- Orders calls that add several keyed jobs at once, and locks the jobs that have one of these keys.
--
-- First the keys, in the order of their hashes, then the rows, in the order of their ids: two calls on overlapping keys
-- wait for each other here, before either holds anything else the other may want, and so never deadlock.
create or replace function {gw}._pgtasks_lock_job_keys(job_keys text[])
returns bigint[]
language plpgsql
volatile
as $pgtasks$
declare
  v_hashes bigint[];
  v_ids bigint[];
begin
  if cardinality(_pgtasks_lock_job_keys.job_keys) > 1 then
    select array_agg(hash order by hash) into v_hashes
    from (select distinct hashtextextended(job_key, 0) as hash from unnest(job_keys) as job_key) as hashes;

    insert into {gw}._pgtasks_key_locks (key_hash)
    select hash from unnest(v_hashes) with ordinality as hashes (hash, position) order by position
    on conflict do nothing;
    delete from {gw}._pgtasks_key_locks where key_hash = any(v_hashes);
  end if;

  select array_agg(keyed.id) into v_ids
  from (
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.key = any(_pgtasks_lock_job_keys.job_keys)
    order by jobs.id
    for update
  ) as keyed;
  return v_ids;
end;
$pgtasks$;
