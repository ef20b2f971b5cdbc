-- What the demo works on. {gw} is the schema that holds the queue.
create schema pgtasks_demo;

create table pgtasks_demo.files (
  id integer generated always as identity primary key,
  module text not null,
  path text not null
);

-- A row for each file that was parsed; indexed_at is set once its imports are known too.
create table pgtasks_demo.modules (
  file_id integer primary key references pgtasks_demo.files,
  lines integer not null,
  functions integer not null,
  classes integer not null,
  indexed_at timestamptz
);

create table pgtasks_demo.imports (
  file_id integer not null references pgtasks_demo.files,
  imported text not null,
  primary key (file_id, imported)
);

-- The newest summary is the one that counts.
create table pgtasks_demo.summaries (
  job_id bigint primary key,
  summary json not null
);

-- A row for each start of a job, by which process.
create table pgtasks_demo.runs (
  job_id bigint not null,
  attempt integer not null,
  task text not null,
  file_id integer,
  pid integer not null,
  started_at timestamptz not null default clock_timestamp(),
  primary key (job_id, attempt)
);

-- Adding a job takes no Python: the row and its job are committed together, or neither is.
create function pgtasks_demo.parse_new_file()
returns trigger
language plpgsql
as $$
begin
  perform {gw}.add_job(
    'demo_parse_file',
    payload => json_build_object('file_id', new.id),
    max_attempts => 2
  );
  return new;
end;
$$;

create trigger parse_new_file
after insert on pgtasks_demo.files
for each row execute function pgtasks_demo.parse_new_file();
