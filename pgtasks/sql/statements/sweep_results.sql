-- Deletes results that have expired, so many at most, and what nobody waits for any more; returns how many of the former.
with waits as (
    delete from {gw}._pgtasks_waits as waits where waits.until < now()
),
expired as (
    delete from {gw}._pgtasks_results as results
    where results.job_id = any(array(
        select old.job_id from {gw}._pgtasks_results as old
        where old.expires_at <= now()
        order by old.expires_at
        limit $1::integer
        for update skip locked
    ))
    returning 1
)
select count(*) from expired
