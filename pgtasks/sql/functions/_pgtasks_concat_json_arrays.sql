-- Two JSON arrays as one, joined as text: going through jsonb would refuse \u0000 and rewrite numbers and keys.
create or replace function {gw}._pgtasks_concat_json_arrays(a json, b json)
returns json
language sql
immutable
as $pgtasks$
  select case
    when parts.a_items = '' then b
    when parts.b_items = '' then a
    else ('[' || parts.a_items || ',' || parts.b_items || ']')::json
  end
  from (
    select
      btrim(substr(texts.a, 2, length(texts.a) - 2), E' \t\n\r') as a_items,
      btrim(substr(texts.b, 2, length(texts.b) - 2), E' \t\n\r') as b_items
    from (select btrim(a::text, E' \t\n\r') as a, btrim(b::text, E' \t\n\r') as b) as texts
  ) as parts
$pgtasks$;
