-- Limits that were set at run time. They come before those of the settings with the same name.
create table {schema}._pgtasks_ratelimit_limits (
  name text primary key,
  rule text not null,
  -- What the rule says: so many tokens in so many seconds; null: no rate, or no cap.
  tokens integer,
  period double precision,
  burst integer,
  max_running integer,
  updated_at timestamptz not null default now()
);

-- A bucket for each flag or value that a limit is counted for. It holds what has come in since `empty_at`, a token every
-- `seconds_per_token`, and never more than `burst`. A bucket that is full need not have a row.
create table {schema}._pgtasks_ratelimit_buckets (
  key text primary key,
  empty_at timestamptz not null,
  seconds_per_token double precision not null,
  burst integer not null
) with (fillfactor = 20, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- What worker processes hold of buckets. Tokens of a lease are still in the bucket until they are reported as used, or
-- the lease expires; `running` are the places that the worker occupies of a cap.
create table {schema}._pgtasks_ratelimit_holders (
  key text not null,
  holder text not null,
  lease bigint not null,
  tokens integer not null,
  expires_at timestamptz not null,
  running integer not null,
  seen_at timestamptz not null,
  primary key (key, holder)
) with (fillfactor = 20, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
