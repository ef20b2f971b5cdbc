-- breaking: no

-- A task that is registered anew gets its old number: see _pgtasks_forgotten_task.
create index _pgtasks_forgotten_names_task_idx on {gw}._pgtasks_forgotten_names (name) where kind = 'task';
