-- Makes the tasks' names known beforehand. Were the first job of a task added within a long transaction, every other
-- add of such a job would wait for that transaction, since both register the name.
select count({gw}._pgtasks_register_task(missing.identifier))
from (
    select wanted.identifier
    from unnest($1::text[]) as wanted (identifier)
    where not exists (select from {gw}._private_tasks as task where task.identifier = wanted.identifier)
    order by wanted.identifier
) as missing
