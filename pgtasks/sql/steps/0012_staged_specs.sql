-- breaking: no

-- Holds no row that anyone else can see: a call that adds more jobs than one statement takes keeps here, until its last
-- statement, what has to be added all at once. A row is a batch of specs, as _pgtasks_read_specs takes it.
create unlogged table {gw}._pgtasks_staged_specs (
  call_id uuid,
  batch integer,
  common json not null,
  each json not null,
  payloads json not null,
  primary key (call_id, batch)
);
-- To compress what is deleted in a moment costs more than it saves.
alter table {gw}._pgtasks_staged_specs
  alter column each set storage external,
  alter column payloads set storage external;
