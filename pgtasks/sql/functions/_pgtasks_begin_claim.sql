-- To be called before a worker locks jobs: makes sure that whoever gives back the jobs of a dead worker does so when no
-- claim of its is under way, and that none comes after.
create or replace function {gw}._pgtasks_begin_claim(worker_id text)
returns void
language plpgsql
volatile
as $pgtasks$
begin
  perform pg_advisory_xact_lock_shared(
    hashtextextended({gw_text} || ' worker ' || _pgtasks_begin_claim.worker_id, 0)
  );
  if current_setting('transaction_isolation') <> 'read committed' then
    -- Fails with 40001 if the row has changed since the snapshot was taken.
    perform from {gw}._pgtasks_workers as workers where workers.id = _pgtasks_begin_claim.worker_id for share;
  end if;
  if exists (
    select from {gw}._pgtasks_workers as workers
    where workers.id = _pgtasks_begin_claim.worker_id and workers.retired_at is not null
  ) then
    raise exception using
      errcode = 'GWEVI',
      message = format('Worker %s has been retired and can claim nothing any more.', _pgtasks_begin_claim.worker_id);
  end if;
end;
$pgtasks$;
