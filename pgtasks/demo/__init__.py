"""The demo, `pgtasks demo`: it indexes the source of Python's standard library with a pool of workers.

`tasks` is what an application would write, and worth reading first; `schema.sql` adds its jobs. The rest stages it:
`run` is the sequence of events, `worker` the pool as a process, `store` the database, `screen` what the user sees.
"""
