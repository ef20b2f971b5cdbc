select
    case $2::text
        when 'remove' then {gw}.pgtasks_remove_timetable($1::text)
        when 'pause' then {gw}.pgtasks_pause_timetable($1::text)
        else {gw}.pgtasks_resume_timetable($1::text)
    end
