-- The server's process that answers: behind a pooler it is another one than the connection was told.
select
    pg_catalog.pg_backend_pid()
