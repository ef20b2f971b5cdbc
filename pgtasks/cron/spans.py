"""Time phrases: `4w3d2h1m` is four weeks, three days, two hours and one minute."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final

from pgtasks.errors import CronError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"([0-9]+)([smhdw])")
_PHRASE: Final = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST: Final = 1e10
"""Seconds, three hundred years: PostgreSQL's and Python's calendars have room for that."""


def read_span(text: str) -> float:
    """Return how many seconds a time phrase is.

    Raises:
        CronError: it is none.

    >>> read_span("4w3d2h1m")
    2685660.0
    """
    if _PHRASE.fullmatch(text) is None:
        raise CronError(f"{text!r} is no time phrase{_hint(text)}")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _LONGEST:
        raise CronError(f"{text!r} is longer than the calendar")
    return float(seconds)


def as_seconds(value: object, what: str) -> float:
    """Return a time phrase, a timedelta or a number of seconds as seconds.

    Args:
        value: what was given.
        what: how messages call it.

    Raises:
        CronError: it is none of them, or negative.
    """
    if isinstance(value, str):
        try:
            return read_span(value)
        except CronError as error:
            raise CronError(f"{what}={error}") from None
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise CronError(f"{what}={value!r} must be a time phrase like '2d', a timedelta or a number of seconds")
    if not 0 <= seconds <= _LONGEST or math.isnan(seconds):
        raise CronError(f"{what}={value!r} must be from 0 to {_LONGEST:g} seconds")
    return float(seconds)


def _hint(text: str) -> str:
    if text.isdigit():
        return f"; numbers have a unit (s, m, h, d, w): {text}m, for example"
    if _PHRASE.fullmatch(text.lower()):
        return f"; units are lower-case: {text.lower()!r}"
    return ", which is numbers and their units (s, m, h, d, w), as in '1d12h'"
