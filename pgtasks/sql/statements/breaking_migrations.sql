-- Whether the schema has taken a step after which releases that do not know it must not go on.
select
    exists (select from {gw}.migrations as step where step.breaking and step.id > $1::integer)
    or exists (select from {gw}._pgtasks_migrations as step where step.breaking and step.id > $2::integer)
