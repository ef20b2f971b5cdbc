(select task.identifier from {gw}._private_tasks as task where task.identifier = $1::text)
union
(select task.identifier from {gw}._private_tasks as task order by task.identifier limit $2::integer)
