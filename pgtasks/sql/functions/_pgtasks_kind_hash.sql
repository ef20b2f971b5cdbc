-- A hash of a job's flags, for the index of jobs by kind; 0 for none. Flags that begin with `@` say something about one job
-- and make no kind: where there are any, the names of the others are hashed.
--
-- It has to be, word for word, the expression of that index, which is used because the function is replaced by its body
-- when a statement is planned.
create or replace function {gw}._pgtasks_kind_hash(flags jsonb)
returns bigint
language sql
immutable
as $pgtasks$
  select coalesce(
    jsonb_hash_extended(
      case
        when flags @? 'strict $ ? (@.type() == "object").keyvalue().key ? (@ starts with "@")'
          then jsonb_path_query_array(flags, '$.keyvalue().key ? (!(@ starts with "@"))')
        else flags
      end,
      0
    ),
    0
  )
$pgtasks$;
