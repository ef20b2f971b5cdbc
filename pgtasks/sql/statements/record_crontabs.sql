select
    known.found_at, known.identifier, known.known_since, known.last_execution
from
    {gw}._pgtasks_record_crontabs($1::text, $2::timestamptz, $3::text[], $4::text[]) as known
