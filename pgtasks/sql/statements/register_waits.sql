insert into {gw}._pgtasks_waits as waits (waiter_id, job_id, until)
select $1::uuid, asked.id, now() + make_interval(secs => $3::double precision)
from unnest($2::text::bigint[]) as asked (id)
on conflict (job_id, waiter_id) do update set until = excluded.until
returning true
