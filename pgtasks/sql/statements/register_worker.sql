select {gw}._pgtasks_register_worker($1::text, $2::text, $3::text, $4::integer, $5::text)
