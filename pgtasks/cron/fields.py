"""The five fields of a crontab: which minutes, hours, days, months and weekdays they name.

The dialect is that of Graphile Worker: numbers, `a-b`, `*`, `*/n` and lists. Names of months and weekdays, steps in
ranges and `@daily` and the like are ours alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgtasks.errors import CronError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one of the five fields may hold."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()
    """Of its values, from the first."""


KINDS: Final = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day", 1, 31),
    _Kind("month", 1, 12, _MONTHS),
    _Kind("weekday", 0, 6, _WEEKDAYS),
)
NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_STAR: Final = re.compile(r"\*(?:/([0-9]+))?")
_RANGE: Final = re.compile(r"([0-9]+|[a-z]+)-([0-9]+|[a-z]+)(?:/([0-9]+))?")
_VALUE: Final = re.compile(r"[0-9]+|[a-z]+")
_OTHER_DIALECTS: Final = re.compile(r"[?#]|\bL?W\b|L\b|\d[LW]")
"""What Quartz and others have for last days, nearest weekdays and the like."""
_WORD: Final = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Fields:
    """What the five fields name."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday, 6 Saturday."""
    every_hour: bool
    """Whether the hour field is `*` or `*/n`."""


class FieldError(CronError):
    """A mistake in the fields, and where in their text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset
        """Characters of the text before the mistake."""


def read_fields(text: str) -> Fields:
    """Read five fields, or a nickname such as `@daily`.

    Raises:
        FieldError: one of them is wrong; the message names it and the fix.

    >>> sorted(read_fields("0 9-17/4 * * mon-fri").hours)
    [9, 13, 17]
    """
    words = list(_WORD.finditer(text))
    if words and words[0][0].startswith("@"):
        if len(words) > 1:
            raise FieldError(f"{words[0][0]} stands for all five fields; leave out what follows", words[1].start())
        return read_fields(_full(words[0][0], words[0].start()))
    if len(words) != len(KINDS):
        raise _not_five([word[0] for word in words], text)
    sets = [_read_field(kind, word[0], word.start()) for kind, word in zip(KINDS, words, strict=True)]
    minutes, hours, days, months, weekdays = sets
    return Fields(minutes, hours, days, months, weekdays, every_hour=_STAR.fullmatch(words[1][0]) is not None)


def _full(nickname: str, offset: int) -> str:
    if (full := NICKNAMES.get(nickname.lower())) is not None:
        return full
    if nickname.lower() == "@reboot":
        raise FieldError("@reboot is no time: there is no machine whose start it could be; add a job instead", offset)
    hint = did_you_mean(nickname.lower(), NICKNAMES) or f"; there are {', '.join(NICKNAMES)}"
    raise FieldError(f"there is no {nickname!r}{hint}", offset)


def _not_five(words: Sequence[str], text: str) -> FieldError:
    names = "minute hour day month weekday"
    if len(words) == len(KINDS) + 1:
        hint = ", without seconds" if all(word[0] in "*0123456789" for word in words) else ""
    else:
        hint = ", as in '30 4 * * mon'"
    return FieldError(f"a timetable has five fields, {names}{hint}; here are {len(words)}", len(text.rstrip()))


def _read_field(kind: _Kind, text: str, offset: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        values.update(_read_part(kind, part, offset))
        offset += len(part) + 1
    return frozenset(values)


def _read_part(kind: _Kind, text: str, offset: int) -> Iterable[int]:
    lower = text.lower()
    if not text:
        raise FieldError(f"{kind.name} has an empty place in its list; leave out the comma", offset)
    if star := _STAR.fullmatch(lower):
        return range(kind.first, kind.last + 1, _step(kind, star[1], offset + 2))
    if span := _RANGE.fullmatch(lower):
        start = _value(kind, span[1], offset)
        end = _value(kind, span[2], offset + span.start(2), ends=True)
        if end <= start:
            raise FieldError(
                f"{kind.name} {text!r} does not go up: {_turned(kind, start, end, span)}", offset + span.start(2)
            )
        step = _step(kind, span[3], offset + span.start(3))
        return (value % 7 if kind.names is _WEEKDAYS else value for value in range(start, end + 1, step))
    if _VALUE.fullmatch(lower):
        return (_value(kind, lower, offset) % 7 if kind.names is _WEEKDAYS else _value(kind, lower, offset),)
    raise FieldError(_unreadable(kind, text), offset)


def _step(kind: _Kind, text: str | None, offset: int) -> int:
    if text is None:
        return 1
    if int(text) == 0:
        raise FieldError(f"{kind.name} cannot go in steps of 0; steps are 1 or more", offset)
    return int(text)


def _value(kind: _Kind, text: str, offset: int, *, ends: bool = False) -> int:
    """Return a number or name as a number; weekday 7, and Sunday at the end of a range, is 7."""
    if not text.isdigit():
        if text not in kind.names:
            raise FieldError(_no_name(kind, text), offset)
        value = kind.first + kind.names.index(text)
        return 7 if ends and kind.names is _WEEKDAYS and value == 0 else value
    value = int(text)
    last = 7 if kind.names is _WEEKDAYS else kind.last
    if not kind.first <= value <= last:
        also = " (0 and 7 are Sunday)" if kind.names is _WEEKDAYS else ""
        raise FieldError(f"{kind.name} {value} is out of range: it is from {kind.first} to {last}{also}", offset)
    return value


def _no_name(kind: _Kind, text: str) -> str:
    if _OTHER_DIALECTS.fullmatch(text.upper()):
        return _of_another_dialect(kind, text.upper())
    if not kind.names:
        hint = f"it takes numbers from {kind.first} to {kind.last}, and *"
        return f"{kind.name} {text!r} is no number; {hint}"
    near = next((name for name in kind.names if text.startswith(name)), None)
    hint = f"; did you mean {near!r}?" if near else did_you_mean(text, kind.names)
    return f"there is no {kind.name} {text!r}{hint or '; they are ' + ', '.join(kind.names)}"


def _turned(kind: _Kind, start: int, end: int, span: re.Match[str]) -> str:
    if start == end:
        return f"write {span[1]!r}"
    step = f"/{span[3]}" if span[3] else ""
    if kind.names is _WEEKDAYS and end == 7:
        return "write 'sun'"
    parts = [
        f"{first}-{last}{step}" if first != last else str(first)
        for first, last in ((start, kind.last), (kind.first, end))
    ]
    return f"write {','.join(parts)!r}" if not step else f"list what is meant, as in {','.join(parts)!r}"


def _of_another_dialect(kind: _Kind, text: str) -> str:
    return f"{kind.name} {text!r} is not of this dialect, which has no '?', 'L', 'W' or '#'"


def _unreadable(kind: _Kind, text: str) -> str:
    value, slash, step = text.partition("/")
    if slash and _VALUE.fullmatch(value.lower()):
        if step.isdigit() and value.isdigit():
            return f"{kind.name} {text!r} has no end; write '{value}-{kind.last}/{step}'"
        return f"{kind.name} {text!r} cannot be read; steps are of '*' or of a range, as in '*/{step or 2}'"
    if slash and not step.isdigit():
        return f"{kind.name} {text!r} has no step that is a number, as in '{value}/2'"
    if _OTHER_DIALECTS.search(text):
        return _of_another_dialect(kind, text)
    return f"{kind.name} {text!r} cannot be read; it takes numbers, ranges (1-5), '*', '*/2', and lists of these"
