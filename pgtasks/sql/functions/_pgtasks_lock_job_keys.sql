-- Orders calls that add several keyed jobs at once: two on overlapping keys wait for each other here, before either
-- holds anything else that the other may want. The keys are locked in the order of their hashes.
create or replace function {gw}._pgtasks_lock_job_keys(job_keys text[])
returns void
language plpgsql
volatile
as $pgtasks$
declare
  v_hashes bigint[];
begin
  if cardinality(_pgtasks_lock_job_keys.job_keys) < 2 then
    return;
  end if;
  select array_agg(hash order by hash) into v_hashes
  from (select distinct hashtextextended(job_key, 0) as hash from unnest(job_keys) as job_key) as hashes;

  insert into {gw}._pgtasks_key_locks (key_hash)
  select hash from unnest(v_hashes) with ordinality as hashes (hash, position) order by position
  on conflict do nothing;
  delete from {gw}._pgtasks_key_locks where key_hash = any(v_hashes);
end;
$pgtasks$;
