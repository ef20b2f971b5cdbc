-- All else that is to be known of the job was said when it was added.
select
    job.id, job.created_at
from
    {gw}.add_job(
        $1::text,
        payload := $2::json,
        queue_name := $3::text,
        run_at := coalesce($4::timestamptz, now() + make_interval(secs => $5::double precision)),
        max_attempts := $6::integer,
        priority := $7::integer,
        flags := $8::text[]
    ) as job
