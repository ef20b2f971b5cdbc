"""Which minutes schedules name, in UTC and where clocks are changed."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from pgtasks import CronError
from pgtasks.cron.schedule import Schedule
from pgtasks.cron.spans import as_seconds, read_span

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = timedelta(minutes=1)
FIVE_YEARS = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def of_library(text: str, zone: str) -> Iterator[datetime]:
    """What another implementation finds: it repeats the minute after a gap for each time that was skipped."""
    last = FIVE_YEARS[0]
    for local in CronSim(text, last.astimezone(ZoneInfo(zone))):
        minute = local.astimezone(UTC)
        if minute > FIVE_YEARS[1]:
            return
        if minute > last:
            yield minute
        last = max(minute, last)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    "text",
    [
        "0 0 * * *",
        "30 4 * * *",
        "30 2 * * *",
        "0 1 * * *",
        "0 2,3 * * *",
        "15,45 3 * * *",
        "0 9-17 * * mon-fri",
        "30 4 * * mon",
        "0 12 * * 0",
        "0 12 * * 7",
        "0 22 * * 5-7",
        "0 6 1 * *",
        "0 6 31 * *",
        "0 6 29 2 *",
        "0 6 1-7 * *",
        "0 6 1,15 * *",
        "0 6 1-30/5 * *",
        "0 2 13 * fri",
        "0 0 1 jan *",
        "0 0 1 jan,jul *",
        "30 2 * mar,oct sun",
        "30 1 * nov *",
        "0 */6 * * *",
        "30 */12 1 * *",
        "0 * 1 * *",
        "*/20 * 1-7 mar,nov sun",
    ],
)
def test_five_years_of_times_are_those_of_another_implementation(text: str, zone: str) -> None:
    assert list(Schedule(text, zone).between(*FIVE_YEARS)) == list(of_library(text, zone))


@pytest.mark.parametrize(
    ("text", "zone", "day", "expected"),
    [
        # Clocks go from 2:00 to 3:00, which is 1:00 in UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", "01:00"),
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-29", "01:00"),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29", "01:00"),
        ("30 1,2,3 29 3 *", "Europe/Berlin", "2026-03-29", "00:30 01:00 01:30"),
        (
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-03-29",
            "02:00 04:00 06:00 08:00 10:00 12:00 14:00 16:00 18:00 20:00 22:00",
        ),
        # Clocks go from 3:00 back to 2:00, which is 1:00 in UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", "00:30"),
        ("*/20 2 * * *", "Europe/Berlin", "2026-10-25", "00:00 00:20 00:40"),
        ("0 3 * * *", "Europe/Berlin", "2026-10-25", "02:00"),
        ("0,30 */24 * * *", "Europe/Berlin", "2026-10-25", "23:00 23:30"),
        (
            "0 */2 25 10 *",
            "Europe/Berlin",
            "2026-10-25",
            "00:00 01:00 03:00 05:00 07:00 09:00 11:00 13:00 15:00 17:00 19:00 21:00",
        ),
        # By half an hour, from 2:00 to 2:30, and back from 2:00 to 1:30.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03", "15:30"),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04", "14:45"),
        (
            "45 * 5 4 *",
            "Australia/Lord_Howe",
            "2026-04-04",
            "13:45 14:45 15:15 16:15 17:15 18:15 19:15 20:15 21:15 22:15 23:15",
        ),
        # At midnight: there is no 0:00 on that day.
        ("0 0 * * *", "America/Santiago", "2026-09-06", "04:00"),
        ("0 */12 6 9 *", "America/Santiago", "2026-09-06", "15:00"),
        # A whole day is skipped.
        ("30 4 30 * *", "Pacific/Apia", "2011-12-30", "10:00"),
    ],
)
def test_skipped_times_run_once_after_the_gap_and_doubled_times_run_the_first_time(
    text: str, zone: str, day: str, expected: str
) -> None:
    start = at(day)
    found = Schedule(text, zone).between(start - MINUTE, start + timedelta(days=1) - MINUTE)
    assert " ".join(f"{minute:%H:%M}" for minute in found) == expected


NUMBERS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


@st.composite
def fields(draw: st.DrawFn) -> str:
    """Any five fields, most of which name many days."""

    def part(first: int, last: int) -> str:
        kind = draw(st.sampled_from(["*", "*", "*/n", "a", "a-b", "a-b/n"]))
        low = draw(st.integers(first, last - 1))
        values = {"a": low, "b": draw(st.integers(low + 1, last)), "n": draw(st.integers(1, last))}
        return "".join(str(values.get(character, character)) for character in kind)

    def field(first: int, last: int) -> str:
        return ",".join(part(first, last) for _ in range(draw(st.sampled_from([1, 1, 2]))))

    return " ".join(field(*numbers) for numbers in NUMBERS)


def numbers(text: str, first: int, last: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        ends = (first, last) if span == "*" else (int(low), int(high or low))
        found.update(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


def by_looking_at_each_minute(text: str, zone: str, start: datetime, minutes: int) -> list[datetime]:
    """The rules in other words, for a few days: which minutes match, or stand for a time that was skipped."""
    parts = text.split()
    sets = [numbers(part, *span) for part, span in zip(parts, [*NUMBERS[:4], (0, 6)], strict=True)]
    sets[4] = {weekday % 7 for weekday in sets[4]}

    def reads(local: datetime) -> bool:
        day, weekday = local.day in sets[2], local.isoweekday() % 7 in sets[4]
        either = day or weekday if len(sets[2]) < 31 and len(sets[4]) < 7 else day and weekday
        return local.minute in sets[0] and local.hour in sets[1] and local.month in sets[3] and either

    by_minutes = parts[1] == "*" or (parts[1].startswith("*/") and "," not in parts[1])
    found: list[datetime] = []
    latest = datetime.min  # noqa: DTZ901 - what a clock on the wall reads
    for count in range(-24 * 60, minutes):
        minute = start + count * MINUTE
        wall = minute.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if by_minutes:
            due = reads(wall)
        elif wall <= latest:
            due = False  # this was read before
        else:
            skipped = (wall - latest) // MINUTE if latest.year > 1 else 1
            due = any(reads(wall - back * MINUTE) for back in range(skipped))
        latest = max(latest, wall)
        if due and count >= 0:
            found.append(minute)
    return found


@settings(max_examples=40, deadline=None)
@given(
    text=fields(),
    place=st.sampled_from(
        [
            ("UTC", "2026-03-29"),
            ("Europe/Berlin", "2026-03-28"),
            ("Europe/Berlin", "2026-10-24"),
            ("Australia/Lord_Howe", "2026-04-04"),
            ("Australia/Lord_Howe", "2026-10-03"),
            ("America/Santiago", "2026-04-04"),
            ("America/Santiago", "2026-09-05"),
            ("America/Havana", "2026-03-07"),
            ("America/Havana", "2026-10-31"),
            ("Pacific/Apia", "2011-12-29"),
            ("Asia/Kathmandu", "2026-12-31"),
        ]
    ),
    offset=st.integers(0, 24 * 60),
)
def test_the_times_are_those_found_by_looking_at_each_minute(text: str, place: tuple[str, str], offset: int) -> None:
    zone, day = place
    start, minutes = at(day) + offset * MINUTE, 30 * 60
    schedule = Schedule(text, zone)
    expected = by_looking_at_each_minute(text, zone, start, minutes)
    assert list(schedule.between(start - MINUTE, start + (minutes - 1) * MINUTE)) == expected
    near = [start + count * MINUTE for count in range(0, minutes, 7)] + expected
    assert [minute for minute in near if schedule.matches(minute)] == [minute for minute in near if minute in expected]


@pytest.mark.parametrize(
    ("nickname", "fields_"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_nicknames_stand_for_five_fields(nickname: str, fields_: str) -> None:
    start = at("2026-11-29")
    found, expected = (Schedule(text, "Asia/Tokyo") for text in (nickname, fields_))
    assert list(found.between(start, start + timedelta(days=800))) == list(
        expected.between(start, start + timedelta(days=800))
    )


def test_seconds_of_a_moment_do_not_matter_and_its_time_zone_is_heeded() -> None:
    schedule = Schedule("30 4 * * *")
    moment = datetime(2026, 7, 1, 6, 29, 59, tzinfo=ZoneInfo("Europe/Berlin"))
    assert schedule.next_after(moment) == at("2026-07-01T04:30")
    assert schedule.next_after(at("2026-07-01T04:30:01")) == at("2026-07-02T04:30")
    assert schedule.matches(at("2026-07-01T04:30:59"))
    with pytest.raises(ValueError, match="has no time zone"):
        schedule.next_after(moment.replace(tzinfo=None))


def test_a_day_that_no_year_has_is_never_and_a_leap_day_is_found_over_eight_years() -> None:
    never = Schedule("0 0 30 2 *")
    assert never.is_never
    assert never.next_after(at("2026-01-01")) is None
    assert Schedule("0 0 30 2 *", "Europe/Berlin").next_after(at("2026-01-01")) is None
    leap = Schedule("0 0 29 2 *", "Europe/Berlin")
    assert not leap.is_never
    assert leap.next_after(at("2096-03-01")) == at("2104-02-28T23:00")


def test_schedules_are_compared_by_text_and_time_zone_and_can_be_sent_to_other_processes() -> None:
    berlin = Schedule("0 4 * * *", "Europe/Berlin")
    assert pickle.loads(pickle.dumps(berlin)) == berlin
    assert len({berlin, Schedule("0 4 * * *", "Europe/Berlin"), Schedule("0 4 * * *")}) == 2
    assert repr(berlin) == "Schedule('0 4 * * *', 'Europe/Berlin')"


def test_between_is_read_as_it_is_needed() -> None:
    found = Schedule("* * * * *").between(at("2026-01-01"), at("9000-01-01"))
    assert list(islice(found, 2)) == [at("2026-01-01T00:01"), at("2026-01-01T00:02")]


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("berlin", "did you mean 'Europe/Berlin'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("../etc/passwd", "a name like Europe/Berlin"),
        ("", "a name like Europe/Berlin"),
    ],
)
def test_a_time_zone_that_there_is_not_is_an_error_that_names_the_nearest(zone: str, hint: str) -> None:
    with pytest.raises(CronError, match=f"there is no time zone {zone!r}") as error:
        Schedule("0 0 * * *", zone)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("4w3d2h1m", 2_685_660), ("90s", 90), ("2d", 172_800), ("0s", 0), ("1m1m", 120)]
)
def test_time_phrases_are_sums_of_numbers_with_units(text: str, seconds: int) -> None:
    assert read_span(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3", "numbers have a unit"),
        ("3D", "units are lower-case: '3d'"),
        ("3 d", "is no time phrase"),
        ("", "is no time phrase"),
        ("99999999w", "longer than the calendar"),
        (-1, "from 0 to"),
        (float("nan"), "from 0 to"),
        (True, "must be a time phrase"),
        ([], "must be a time phrase"),
    ],
)
def test_a_span_that_is_none_is_an_error_that_names_the_fix(value: object, message: str) -> None:
    with pytest.raises(CronError, match=f"backfill=.*{message}"):
        as_seconds(value, "backfill")
    assert as_seconds(timedelta(hours=1), "backfill") == 3_600
