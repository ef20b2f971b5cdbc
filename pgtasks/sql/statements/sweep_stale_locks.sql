select unlocked_jobs, unlocked_queues, restored_queues from {gw}._pgtasks_sweep_stale_locks()
