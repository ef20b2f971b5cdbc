select {gw}._pgtasks_has_runnable($1::text[], $2::text[], $3::text[])
