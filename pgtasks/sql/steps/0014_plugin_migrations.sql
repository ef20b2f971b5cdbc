-- breaking: no

-- Which steps of the plugins' own tables were taken.
create table {gw}._pgtasks_plugin_migrations (
  plugin text not null,
  number integer not null,
  ts timestamptz not null default now(),
  primary key (plugin, number)
);
