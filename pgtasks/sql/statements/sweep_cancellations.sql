select removed_jobs from {gw}._pgtasks_sweep_cancellations()
