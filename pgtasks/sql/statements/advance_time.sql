-- For tests: lets all that waits look as if it had been there for so many seconds more. A job that somebody holds is left
-- alone, since its times are the token of its claim.
with moved as (
    update {gw}._private_jobs as job
    set
        run_at = job.run_at - moment.passed,
        created_at = job.created_at - moment.passed,
        updated_at = job.updated_at - moment.passed
    from (select make_interval(secs => $1::double precision)) as moment (passed)
    where job.locked_at is null
    returning job.id
)
select count(*) from moved
