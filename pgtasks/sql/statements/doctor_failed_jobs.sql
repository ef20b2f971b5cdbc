-- How many jobs have failed permanently, counted up to $1.
select count(*)
from (
    select from {gw}._private_jobs as job
    where job.locked_at is null and job.attempts >= job.max_attempts
    order by job.id
    limit $1::integer
) as counted
