-- Those that hold jobs, and those that have made themselves known and have not ended.
select
    coalesce(held.worker_id, known.id), coalesce(held.jobs, 0), held.oldest_lock,
    known.host_name, known.pid, known.version, known.started_at, known.heartbeat_at,
    extract(epoch from clock_timestamp() - known.heartbeat_at)::double precision,
    known.succeeded, known.failed, known.running
from
    {gw}._pgtasks_list_workers($1::integer, $2::integer) as held
    full join (
        select worker.*
        from {gw}._pgtasks_workers as worker
        where worker.released_at is null
        order by worker.id
        limit $1::integer
    ) as known on known.id = held.worker_id
order by 1
limit $1::integer
