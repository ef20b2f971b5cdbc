select restored_tasks, restored_queues, renumbered_jobs
from {gw}._pgtasks_restore_names($1::text[], make_interval(secs => $2::float8))
