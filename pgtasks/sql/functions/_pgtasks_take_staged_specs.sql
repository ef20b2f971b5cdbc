-- The specs that a call has staged, in their order; afterwards they are staged no longer.
create or replace function {gw}._pgtasks_take_staged_specs(call_id uuid)
returns {gw}.job_spec[]
language plpgsql
volatile
as $pgtasks$
declare
  v_specs {gw}.job_spec[];
begin
  v_specs := array(
    select
      row(
        spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts, spec.job_key, spec.priority,
        spec.flags
      )::{gw}.job_spec
    from {gw}._pgtasks_staged_specs as staged
    cross join unnest({gw}._pgtasks_read_specs(staged.common, staged.each, staged.payloads)) with ordinality as spec
    where staged.call_id = _pgtasks_take_staged_specs.call_id
    order by staged.batch, spec.ordinality
  );
  delete from {gw}._pgtasks_staged_specs as staged
  where staged.call_id = _pgtasks_take_staged_specs.call_id;
  return v_specs;
end;
$pgtasks$;
