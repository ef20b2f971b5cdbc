select
    job_id
from
    {gw}._pgtasks_report_progress(
        $1::text, $2::bigint[], $3::bigint[], $4::timestamptz[], $5::smallint[], $6::double precision[],
        $7::double precision[], $8::text[]
    ) as job_id
