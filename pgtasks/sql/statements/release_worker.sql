select id, state from {gw}._pgtasks_release_worker($1::text, $2::bigint[], retire => $3::boolean)
