-- Sends one notification, by which a listener finds out whether it hears.
select
    pg_notify($1::text, $2::text)
