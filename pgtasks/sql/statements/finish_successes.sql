select
    unnest({gw}._pgtasks_finish_successes($1::text, $2::text::bigint[], $3::text::bigint[])), 'left'
