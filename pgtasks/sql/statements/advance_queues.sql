select
    id, payload::text, priority, run_at, attempts, max_attempts, last_error, created_at, updated_at, key, locked_at,
    locked_by, revision, flags, task, queue_name, ended_id, ended
from
    {gw}._pgtasks_advance_queues($1::text, $2::text[], $3::text[], $4::text::bigint[], $5::text::bigint[])
