-- Keeps a batch for the last statement of a call, see _pgtasks_take_staged_specs.
insert into {gw}._pgtasks_staged_specs (call_id, batch, common, each, payloads)
values ($1::uuid, $2::integer, $3::json, $4::json, $5::json)
returning batch
