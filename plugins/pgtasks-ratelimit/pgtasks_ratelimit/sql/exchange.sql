-- Reports what a holder has used of its leases and takes new ones, of any number of buckets; the arrays belong together
-- by position. A holder has one lease of each bucket: the new one takes the place of the old one, whose unused tokens
-- are back with that.
--
--   names                 the limit that each bucket is of; what _pgtasks_ratelimit_limits says of it comes before
--                         the next four, which are what the holder knows of it
--   tokens, periods       the rate, in tokens and seconds; null: none
--   bursts                how much a bucket holds
--   maxima                how many jobs may run at a time; null: any number
--   leases                the lease that the holder knows of. If it is another one than is known here, it was reported
--                         before (the answer was lost) or has expired, and `used` was counted with that.
--   used, ages            how many of its tokens were used, the last of them so many seconds ago
--   busy                  how many places the holder's jobs occupy
--   wanted                how many tokens, and places, to take; 0: only report
--   aheads                if there is none, how many seconds before it comes in a token may be taken
--
-- Returns how many of each were granted, in how many seconds these may be used, and in how many the next one is due.
--
-- Why no more starts than the limit allows. A bucket's content is min(burst, (now - empty_at) / seconds_per_token).
-- Leased tokens are part of it; a lease is granted only if all that is leased is in the bucket; and a token leaves it
-- at its use, or later if anything is in doubt: never earlier. Take the starts in any span of time, and the last lease
-- that was granted of those that they belong to. Those that were reported before it have moved `empty_at` to at least
-- (beginning of the span) - burst * seconds_per_token, and by a token each; all others were leased then, and were in
-- the bucket. So there are no more of both together than `burst` and what has come in since the beginning of the span.
-- A report that comes late can only lose tokens, as can the clock if it is set back.
--
-- Buckets are locked in the order of their keys, so calls cannot deadlock. `at` is for tests: the time that it is.
create or replace function {schema}._pgtasks_ratelimit_exchange(
  holder text,
  new_lease bigint,
  lifetime double precision,
  keys text[],
  names text[],
  tokens integer[],
  periods double precision[],
  bursts integer[],
  maxima integer[],
  leases bigint[],
  used integer[],
  ages double precision[],
  busy integer[],
  wanted integer[],
  aheads double precision[],
  at timestamptz default null
)
returns table (
  bucket text,
  granted integer,
  starts_in double precision,
  wait double precision,
  limit_tokens integer,
  limit_period double precision,
  limit_burst integer,
  limit_running integer
)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v record;
  v_limit {schema}._pgtasks_ratelimit_limits;
  v_bucket {schema}._pgtasks_ratelimit_buckets;
  v_now timestamptz;
  v_empty_at timestamptz;
  v_per_token double precision;
  v_burst integer;
  v_floor timestamptz;
  v_lease bigint;
  v_tokens integer;
  v_expired integer;
  v_used integer;
  v_leased integer;
  v_running integer;
  v_taken integer;
  v_starts_in double precision;
begin
  for v in
    select asked.*
    from unnest(
      _pgtasks_ratelimit_exchange.keys,
      _pgtasks_ratelimit_exchange.names,
      _pgtasks_ratelimit_exchange.tokens,
      _pgtasks_ratelimit_exchange.periods,
      _pgtasks_ratelimit_exchange.bursts,
      _pgtasks_ratelimit_exchange.maxima,
      _pgtasks_ratelimit_exchange.leases,
      _pgtasks_ratelimit_exchange.used,
      _pgtasks_ratelimit_exchange.ages,
      _pgtasks_ratelimit_exchange.busy,
      _pgtasks_ratelimit_exchange.wanted,
      _pgtasks_ratelimit_exchange.aheads
    ) as asked (key, name, tokens, period, burst, maximum, lease, used, age, busy, wanted, ahead)
    order by asked.key collate "C"
  loop
    select limits.* into v_limit from {schema}._pgtasks_ratelimit_limits as limits where limits.name = v.name;
    if not found then
      v_limit.tokens := v.tokens;
      v_limit.period := v.period;
      v_limit.burst := v.burst;
      v_limit.max_running := v.maximum;
    end if;

    -- The lock on the bucket orders all that is done to it, and its time is taken when it is held.
    loop
      select buckets.* into v_bucket
      from {schema}._pgtasks_ratelimit_buckets as buckets
      where buckets.key = v.key
      for update;
      exit when found;
      insert into {schema}._pgtasks_ratelimit_buckets as buckets (key, empty_at, seconds_per_token, burst)
      select
        v.key,
        coalesce(_pgtasks_ratelimit_exchange.at, clock_timestamp())
          - make_interval(secs => coalesce(v_limit.burst * v_limit.period / v_limit.tokens, 0)),
        coalesce(v_limit.period / v_limit.tokens, 0),
        coalesce(v_limit.burst, 0)
      on conflict do nothing;
    end loop;
    v_empty_at := v_bucket.empty_at;
    v_per_token := coalesce(v_limit.period / v_limit.tokens, v_bucket.seconds_per_token);
    v_burst := coalesce(v_limit.burst, v_bucket.burst);
    v_now := coalesce(_pgtasks_ratelimit_exchange.at, clock_timestamp());
    -- What came in before this does not fit into the bucket.
    v_floor := v_now - make_interval(secs => v_burst * v_per_token);

    -- Whether leases were used that have expired, or whose workers have ended, is not known: they count as used now.
    with expired as materialized (
      select holders.holder, holders.tokens
      from {schema}._pgtasks_ratelimit_holders as holders
      where holders.key = v.key
        and holders.tokens > 0
        and (
          holders.expires_at <= v_now
          or exists (
            select from {schema}._pgtasks_workers as workers
            where workers.id = holders.holder and workers.released_at is not null
          )
        )
    ),
    cleared as (
      update {schema}._pgtasks_ratelimit_holders as holders
      set tokens = 0
      from expired
      where holders.key = v.key and holders.holder = expired.holder
    )
    select sum(expired.tokens) into v_expired from expired;
    if v_expired > 0 then
      v_empty_at := greatest(v_empty_at, v_floor) + make_interval(secs => ceil(v_expired * v_per_token * 1e6) / 1e6);
    end if;

    select holders.lease, holders.tokens into v_lease, v_tokens
    from {schema}._pgtasks_ratelimit_holders as holders
    where holders.key = v.key and holders.holder = _pgtasks_ratelimit_exchange.holder;
    v_used := case when v_lease = v.lease then least(v.used, v_tokens) else 0 end;
    if v_used > 0 then
      v_empty_at := greatest(v_empty_at, v_floor - make_interval(secs => v.age))
        + make_interval(secs => ceil(v_used * v_per_token * 1e6) / 1e6);
    end if;

    select coalesce(sum(holders.tokens), 0), coalesce(sum(holders.running), 0) into v_leased, v_running
    from {schema}._pgtasks_ratelimit_holders as holders
    where holders.key = v.key and holders.holder <> _pgtasks_ratelimit_exchange.holder;
    if v_limit.max_running is not null and v_running + v.busy + v.wanted > v_limit.max_running then
      -- Places of workers whose jobs were given back, and of such as have ended before they were known.
      update {schema}._pgtasks_ratelimit_holders as holders
      set running = 0
      where holders.key = v.key
        and holders.holder <> _pgtasks_ratelimit_exchange.holder
        and holders.running > 0
        and not exists (
          select from {schema}._pgtasks_workers as workers
          where workers.id = holders.holder and workers.released_at is null
        )
        and (
          holders.seen_at < v_now - interval '1 minute'
          or exists (select from {schema}._pgtasks_workers as workers where workers.id = holders.holder)
        );
      select coalesce(sum(holders.running), 0) into v_running
      from {schema}._pgtasks_ratelimit_holders as holders
      where holders.key = v.key and holders.holder <> _pgtasks_ratelimit_exchange.holder;
    end if;

    v_taken := v.wanted;
    v_starts_in := 0;
    if v_limit.tokens is not null then
      -- A millionth of a token is what floating point may lack.
      v_taken := least(
        v_taken,
        floor(least(v_burst, extract(epoch from v_now - v_empty_at)::double precision / v_per_token + 1e-6))::integer
          - v_leased
      );
      if v_taken < 1 and v.wanted > 0 and v_leased < v_burst then
        v_starts_in := extract(epoch from v_empty_at - v_now)::double precision + (v_leased + 1) * v_per_token;
        if v_starts_in <= v.ahead then
          v_taken := 1;
        end if;
      end if;
    end if;
    if v_limit.max_running is not null then
      v_taken := least(v_taken, v_limit.max_running - v_running - v.busy);
    end if;
    v_taken := greatest(v_taken, 0);
    if v_taken = 0 then
      v_starts_in := 0;
    end if;
    v_tokens := case when v_limit.tokens is null then 0 else v_taken end;
    v_running := case when v_limit.max_running is null then 0 else v.busy + v_taken end;

    if v_tokens = 0 and v_running = 0 then
      delete from {schema}._pgtasks_ratelimit_holders as holders
      where holders.key = v.key and holders.holder = _pgtasks_ratelimit_exchange.holder;
    else
      insert into {schema}._pgtasks_ratelimit_holders as holders
        (key, holder, lease, tokens, expires_at, running, seen_at)
      values (
        v.key,
        _pgtasks_ratelimit_exchange.holder,
        _pgtasks_ratelimit_exchange.new_lease,
        v_tokens,
        v_now + make_interval(secs => v_starts_in + _pgtasks_ratelimit_exchange.lifetime),
        v_running,
        v_now
      )
      on conflict (key, holder) do update
      set
        lease = excluded.lease,
        tokens = excluded.tokens,
        expires_at = excluded.expires_at,
        running = excluded.running,
        seen_at = excluded.seen_at;
    end if;
    if v_expired > 0 then
      delete from {schema}._pgtasks_ratelimit_holders as holders
      where holders.key = v.key and holders.tokens = 0 and holders.running = 0;
    end if;
    if v_expired > 0 or v_used > 0 then
      update {schema}._pgtasks_ratelimit_buckets as buckets
      set empty_at = v_empty_at, seconds_per_token = v_per_token, burst = v_burst
      where buckets.key = v.key;
    end if;

    bucket := v.key;
    granted := v_taken;
    starts_in := v_starts_in;
    wait := case
      when v_limit.tokens is null then 0
      else greatest(
        extract(epoch from v_empty_at - v_now)::double precision + (v_leased + v_tokens + 1) * v_per_token, 0
      )
    end;
    limit_tokens := v_limit.tokens;
    limit_period := v_limit.period;
    limit_burst := v_limit.burst;
    limit_running := v_limit.max_running;
    return next;
  end loop;
end;
$pgtasks$;
