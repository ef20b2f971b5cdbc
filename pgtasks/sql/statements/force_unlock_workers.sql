select
    held.worker_id, held.jobs, held.oldest_lock,
    known.host_name, known.pid, known.version, known.started_at, known.heartbeat_at,
    extract(epoch from clock_timestamp() - known.heartbeat_at)::double precision,
    known.succeeded, known.failed
from
    {gw}._pgtasks_force_unlock($1::text[]) with ordinality as held (worker_id, jobs, oldest_lock, position)
    left join {gw}._pgtasks_workers as known on known.id = held.worker_id
order by held.position
