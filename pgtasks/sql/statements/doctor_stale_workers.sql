-- Workers that have not been heard of for so many seconds ($1) and whose jobs nobody has taken over, those that hold
-- most jobs first; what each holds is counted up to $3. The last column: how many others are alive.
with stale as materialized (
    select
        worker.id, worker.host_name, worker.pid, extract(epoch from now() - worker.heartbeat_at) as seconds, held.jobs,
        count(*) over () as total
    from {gw}._pgtasks_workers as worker cross join lateral (
        select count(*) as jobs
        from (
            select from {gw}._private_jobs as job
            where job.locked_at >= '-infinity' and job.locked_by = worker.id
            limit $3::integer
        ) as counted
    ) as held
    where worker.released_at is null and worker.heartbeat_at <= now() - make_interval(secs => $1::double precision)
    order by held.jobs desc, worker.heartbeat_at, worker.id
    limit $2::integer
)
select
    stale.id, stale.host_name, stale.pid, stale.seconds::double precision, stale.jobs, stale.total,
    (
        select count(*)
        from {gw}._pgtasks_workers as worker
        where worker.released_at is null and worker.retired_at is null
            and worker.heartbeat_at > now() - make_interval(secs => $1::double precision)
    )
from stale
order by stale.jobs desc, stale.seconds desc, stale.id
