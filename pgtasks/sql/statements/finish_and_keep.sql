-- As finish_jobs, and keeps how jobs have ended: the arrays after run_ats, which belong to the others by position, with
-- null seconds for a job of which nothing is kept, and whether that is done only if somebody waits for it, or has
-- cancelled it: who begins to wait just then could not tell it from one that has succeeded.
with ended as materialized (
    select
        id, state
    from
        {gw}._pgtasks_finish_jobs(
            $1::text, $4::bigint[], $5::timestamptz[], $6::text[], $7::text[], $8::double precision[], $9::json[],
            $10::boolean[], wait_for_locks => false, run_ats => $11::timestamptz[]
        )
),
kept as (
    insert into {gw}._pgtasks_results as results (job_id, task, state, value, error, expires_at)
    select
        ended.id, told.task,
        case
            when ended.state = 'failed' then 'failed'
            when told.outcome = 'success' then 'succeeded'
            else 'cancelled'
        end,
        told.value, case when known.job_id is null then told.error else known.reason end,
        now() + make_interval(secs => told.seconds)
    from
        ended
        join unnest(
            $4::bigint[], $5::timestamptz[], $6::text[], $7::text[], $12::text[], $13::json[], $14::double precision[],
            $15::boolean[]
        ) as told (id, locked_at, outcome, error, task, value, seconds, if_awaited) on told.id = ended.id
        -- As it was before the function has forgotten it.
        left join {gw}._pgtasks_cancellations as known
            on known.job_id = ended.id and known.locked_by = $1::text and known.locked_at = told.locked_at
            and told.outcome = 'cancel'
    where
        -- Of others that are deleted, since somebody has cancelled them, the function keeps it.
        (ended.state = 'failed' or (ended.state = 'deleted' and told.outcome in ('success', 'cancel')))
        and told.seconds is not null
        and (
            not told.if_awaited
            or exists (select from {gw}._pgtasks_waits as waits where waits.job_id = ended.id)
            or known.job_id is not null
        )
    on conflict (job_id) do update
    set
        task = excluded.task, state = excluded.state, value = excluded.value, error = excluded.error,
        finished_at = excluded.finished_at, expires_at = excluded.expires_at
)
select
    unnest({gw}._pgtasks_finish_successes($1::text, $2::text::bigint[], $3::text::bigint[])), 'left'
union all
select id, state from ended
