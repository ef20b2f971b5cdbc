select
    known.identifier, known.known_since, known.last_execution, noted.entry, noted.recorded_at, noted.recorded_by,
    noted.paused_at, noted.last_tick, noted.scheduled_at, noted.scheduled_by, noted.last_job_id
from
    {gw}._private_known_crontabs as known
    left join {gw}._pgtasks_crontabs as noted on noted.identifier = known.identifier
where
    $1::text[] is null or known.identifier = any($1::text[])
order by known.identifier
