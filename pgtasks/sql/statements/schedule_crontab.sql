select
    done.found_at, done.index, done.state, done.job_id
from
    {gw}._pgtasks_schedule_crontab(
        $1::text, $2::timestamptz, $3::timestamptz[], $4::text[], $5::boolean[], $6::text[], $7::text[], $8::text[],
        $9::timestamptz[], $10::integer[], $11::text[], $12::integer[], $13::text[], $14::text[]
    ) as done
