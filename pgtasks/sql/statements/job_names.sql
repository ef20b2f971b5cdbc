-- What the numbers in a row of _private_jobs stand for. What the role may not see is null.
select
    (select task.identifier from {gw}._private_tasks as task where task.id = $1::integer),
    (select queue.queue_name from {gw}._private_job_queues as queue where queue.id = $2::integer)
