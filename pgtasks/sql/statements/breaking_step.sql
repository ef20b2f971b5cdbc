-- The first step that the schema has taken after which releases that do not know it must not go on; null if there is none.
select
    min(step.id) as id
from (
    select id from {gw}.migrations where breaking and id > $1::integer
    union all
    select id from {gw}._pgtasks_migrations where breaking and id > $2::integer
) as step
