-- Sets or changes a limit while workers run:
--   select graphile_worker.set_rate_limit('stripe', '100/s burst 20');
-- `name` is a flag, or the beginning of flags and `*`, or `payload:` and the path of a value in the payload. For `rule`
-- see the README of pgtasks-ratelimit.
create or replace function {schema}.set_rate_limit(name text, rule text)
returns void
language plpgsql
volatile
as $pgtasks$
declare
  v_rule text := lower(btrim(regexp_replace(set_rate_limit.rule, '\s+', ' ', 'g')));
  v_parts text[];
  v_tokens bigint;
  v_period double precision;
  v_burst bigint;
  v_running bigint;
begin
  if set_rate_limit.name is null or set_rate_limit.name !~ '^[^*]+\*?$' or set_rate_limit.name = 'payload:'
    or set_rate_limit.name ~ '^payload:.*\*$' or char_length(set_rate_limit.name) > 200
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'limit %s: a name is a flag, the beginning of flags followed by *, or payload: and the path of a value',
        coalesce(quote_literal(set_rate_limit.name), 'null')
      );
  end if;
  if v_rule is distinct from 'unlimited' then
    v_parts := regexp_match(
      v_rule,
      '^(?:(\d{{1,9}}) ?/ ?(?:(\d{{1,6}}) ?)?(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?: burst (\d{{1,9}}))?)?'
        || '(?:(?:^|,? )max (\d{{1,9}}) running)?$'
    );
    v_tokens := v_parts[1];
    v_period := coalesce(v_parts[2]::double precision, 1)
      * case left(v_parts[3], 1) when 's' then 1 when 'm' then 60 when 'h' then 3600 when 'd' then 86400 end;
    -- Without a burst: a fifth of a second's worth, and two so that none is lost where a start is a little late, but not
    -- where tokens come in slowly.
    v_burst := coalesce(
      v_parts[4]::bigint,
      greatest(case when v_tokens > v_period then 2 else 1 end, floor(v_tokens / nullif(v_period, 0) / 5))
    );
    v_running := v_parts[5];
    if coalesce(v_tokens, v_running) is null or 0 in (v_tokens, v_period, v_burst, v_running) then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
          'limit %L: cannot read %s: write a rate such as ''100/s burst 20'' or ''10/minute'', a cap such as '
            '''max 4 running'', both with a comma between, or ''unlimited''; all numbers are at least 1',
          set_rate_limit.name,
          coalesce(quote_literal(set_rate_limit.rule), 'null')
        );
    end if;
    if v_tokens is null then
      v_burst := null;
    end if;
  end if;
  insert into {schema}._pgtasks_ratelimit_limits as limits (name, rule, tokens, period, burst, max_running)
  values (set_rate_limit.name, v_rule, v_tokens, v_period, v_burst, v_running)
  on conflict on constraint _pgtasks_ratelimit_limits_pkey do update
  set
    rule = excluded.rule,
    tokens = excluded.tokens,
    period = excluded.period,
    burst = excluded.burst,
    max_running = excluded.max_running,
    updated_at = now();
end;
$pgtasks$;

-- Removes a limit that was set at run time: what the settings say holds again. Returns whether there was one.
create or replace function {schema}.remove_rate_limit(name text)
returns boolean
language sql
volatile
as $pgtasks$
  with removed as (
    delete from {schema}._pgtasks_ratelimit_limits as limits
    where limits.name = remove_rate_limit.name
    returning 1
  )
  select count(*) > 0 from removed
$pgtasks$;

-- Deletes what nothing is known by: buckets that are full, and what dead workers have left. Waits for nobody.
create or replace function {schema}._pgtasks_ratelimit_cleanup()
returns bigint
language plpgsql
volatile
as $pgtasks$
declare
  v record;
  v_tokens integer;
  v_deleted bigint := 0;
  v_now timestamptz;
begin
  for v in
    select buckets.*
    from {schema}._pgtasks_ratelimit_buckets as buckets
    order by buckets.key
    for update skip locked
  loop
    v_now := clock_timestamp();
    select sum(holders.tokens) into v_tokens
    from {schema}._pgtasks_ratelimit_holders as holders
    where holders.key = v.key and holders.tokens > 0 and holders.expires_at <= v_now;
    if v_tokens > 0 then
      v.empty_at := greatest(v.empty_at, v_now - make_interval(secs => v.burst * v.seconds_per_token))
        + make_interval(secs => ceil(v_tokens * v.seconds_per_token * 1e6) / 1e6);
      update {schema}._pgtasks_ratelimit_buckets as buckets set empty_at = v.empty_at where buckets.key = v.key;
      update {schema}._pgtasks_ratelimit_holders as holders
      set tokens = 0
      where holders.key = v.key and holders.tokens > 0 and holders.expires_at <= v_now;
    end if;
    delete from {schema}._pgtasks_ratelimit_holders as holders
    where holders.key = v.key
      and holders.tokens = 0
      and (
        holders.running = 0
        or exists (
          select from {schema}._pgtasks_workers as workers
          where workers.id = holders.holder and workers.released_at is not null
        )
        or (
          holders.seen_at < v_now - interval '1 minute'
          and not exists (select from {schema}._pgtasks_workers as workers where workers.id = holders.holder)
        )
      );
    if v.empty_at <= v_now - make_interval(secs => v.burst * v.seconds_per_token)
      and not exists (select from {schema}._pgtasks_ratelimit_holders as holders where holders.key = v.key)
    then
      delete from {schema}._pgtasks_ratelimit_buckets as buckets where buckets.key = v.key;
      v_deleted := v_deleted + 1;
    end if;
  end loop;
  return v_deleted;
end;
$pgtasks$;
