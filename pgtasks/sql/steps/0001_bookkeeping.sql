-- breaking: no

create table {gw}._pgtasks_migrations (
  id integer primary key,
  name text not null,
  ts timestamptz not null default now(),
  breaking boolean not null default false,
  -- true where the step's work had been done by the reference's installation and was left as it is
  adopted boolean not null default false
);

-- One row: which functions are in place.
create table {gw}._pgtasks_functions (
  only_row boolean primary key default true check (only_row),
  -- the revision of the private functions, see FUNCTIONS_REVISION
  revision integer not null,
  -- true where the seven public functions are ours
  public boolean not null,
  ts timestamptz not null default now()
);
