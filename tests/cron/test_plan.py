"""What is to be done about a timetable, whenever hosts have looked and whenever they were away."""

from __future__ import annotations

import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st

from pgtasks.cron.schedule import Schedule
from pgtasks.cron.timetables import plan
from pgtasks.queue.timetables import Due

START = dt.datetime(2026, 10, 24, 22, 13, 7, tzinfo=dt.UTC)
SCHEDULES = ("* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * 6", "@monthly")
pauses = st.lists(
    st.one_of(st.floats(0, 90), st.floats(0, 7_200), st.floats(0, 40 * 86_400)).map(lambda s: dt.timedelta(seconds=s)),
    min_size=1,
    max_size=12,
)


def followed(text: str, timezone: str, backfill: float, looks: list[dt.timedelta]) -> list[list[dt.datetime]]:
    """The times that get jobs at each look, when a host looks after each of these pauses, until nothing is left."""
    due = Due("t", "task", text, timezone, backfill, START, None)
    now, found = START, []
    for pause in looks:
        now += pause
        moments: list[dt.datetime] = []
        while due.next_at is None or due.next_at <= now:
            settlement = plan(due, now)
            assert settlement.error is None
            assert settlement.until >= due.settled_until
            moments += settlement.moments
            due = due._replace(settled_until=settlement.until, next_at=settlement.next_at)
        found.append(moments)
    return found


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SCHEDULES), st.sampled_from(["UTC", "Europe/Berlin"]), pauses)
def test_with_a_long_backfill_each_time_gets_one_job_in_order(
    text: str, timezone: str, looks: list[dt.timedelta]
) -> None:
    if text == "* * * * *":
        looks = [min(look, dt.timedelta(hours=2)) for look in looks]
    found = followed(text, timezone, 10 * 366 * 86_400, looks)
    all_times = Schedule(text, timezone).between(START, START + sum(looks, dt.timedelta()))
    assert [moment for moments in found for moment in moments] == list(all_times)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SCHEDULES), st.sampled_from(["UTC", "Europe/Berlin"]), pauses, st.sampled_from([0.0, 3_600.0]))
def test_without_one_the_latest_time_that_was_missed_gets_a_job(
    text: str, timezone: str, looks: list[dt.timedelta], backfill: float
) -> None:
    looks = [min(look, dt.timedelta(days=2)) for look in looks]
    now = START
    schedule = Schedule(text, timezone)
    for pause, moments in zip(looks, followed(text, timezone, backfill, looks), strict=True):
        missed = list(schedule.between(now, now + pause))
        now += pause
        recent = [moment for moment in missed if moment > now - dt.timedelta(seconds=backfill)]
        assert moments == (recent or missed[-1:])
