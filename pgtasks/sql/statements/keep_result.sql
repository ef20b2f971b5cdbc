-- The result of a job that has succeeded, in the transaction of its own effects.
insert into {gw}._pgtasks_results as results (job_id, task, state, value, expires_at)
values ($1::bigint, $2::text, 'succeeded', $3::json, now() + make_interval(secs => $4::double precision))
on conflict (job_id) do update
set
    task = excluded.task, state = excluded.state, value = excluded.value, error = null,
    finished_at = excluded.finished_at, expires_at = excluded.expires_at
returning true
