-- One row if row level security, which the queue's tables have without a policy, hides their rows from the role.
select
    current_user::text, pg_catalog.pg_get_userbyid(jobs.relowner)::text
from
    pg_catalog.pg_class as jobs
    join pg_catalog.pg_namespace as schema on schema.oid = jobs.relnamespace
where
    schema.nspname = {gw_text} and jobs.relname = '_private_jobs'
    and pg_catalog.row_security_active(jobs.oid)
    and not exists (select from pg_catalog.pg_policy as policy where policy.polrelid = jobs.oid)
