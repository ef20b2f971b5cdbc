select
    clock_timestamp()
