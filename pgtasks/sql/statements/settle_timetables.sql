select
    {gw}._pgtasks_settle_timetables(
        $1::text, $2::timestamptz, $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
        $8::timestamptz[], $9::text[], $10::integer[], $11::timestamptz[]
    )
