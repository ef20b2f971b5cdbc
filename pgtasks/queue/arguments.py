"""What administration may be asked with: each function checks one kind of argument and returns it.

All raise `JobOptionError` with one line that names the argument, before anything is sent to the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pgtasks.errors import JobOptionError, did_you_mean
from pgtasks.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

MAX_LIMIT = 10_000
"""The most that one call lists, changes or deletes."""

_CURSOR = "before-"
_INTEGER = range(-(2**63), 2**63)
SMALLINT = range(2**15)
_DIGITS = len(str(2**63))


def check_whole(what: str, value: object, allowed: range) -> int:
    """Return a whole number of a range."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise JobOptionError(f"{what}={value!r} must be a whole number, not {type(value).__name__}")
    if value not in allowed:
        raise JobOptionError(f"{what}={value} is out of range: it must be from {allowed.start} to {allowed.stop - 1}")
    return value


def check_id(what: str, value: object) -> int:
    """Return the id of a job, which need not exist."""
    if isinstance(value, Job):
        raise JobOptionError(f"{what} must be a whole number, not a Job; give its id, {value.id}")
    return check_whole(what, value, _INTEGER)


def each_checked(name: str, what: str, values: Iterable[T], check: Callable[[str, object], T]) -> list[T]:
    """Return the checked values, each once, in their order."""
    try:
        given = list(values)
    except TypeError:
        one = values.id if isinstance(values, Job) else values
        raise JobOptionError(f"{name}={one!r} must be a list of {what}; write [{one!r}]") from None
    checked = list(dict.fromkeys([check(name.removesuffix("s"), value) for value in given]))
    if len(checked) > MAX_LIMIT:
        raise JobOptionError(f"{name} holds {len(checked)}, one call takes at most {MAX_LIMIT}")
    return checked


def check_limit(limit: object) -> int:
    """Return how many are to be returned or changed at most."""
    return check_whole("limit", limit, range(1, MAX_LIMIT + 1))


def check_one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    """Raise unless the value is one of those that are known."""
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise JobOptionError(f"{what}={value!r} is none of {', '.join(map(repr, known))}{hint}")


def check_text(what: str, text: object) -> None:
    """Raise unless the text can be stored, or is None."""
    if text is not None:
        check_string(what, text)


def check_string(what: str, text: object) -> str:
    """Return a text that can be stored."""
    if not isinstance(text, str):
        raise JobOptionError(f"{what}={text!r} must be a string, not {type(text).__name__}")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise JobOptionError(f"{what}={text!r} holds a character that PostgreSQL cannot store")
    return text


def cursor_at(job_id: int) -> str:
    """Return what stands for the page of jobs with smaller ids, to be given as `after`."""
    return f"{_CURSOR}{job_id}"


def position_of(after: object) -> int | None:
    """Return the id before which a page begins, or None for the first page."""
    if after is None:
        return None
    number = after.removeprefix(_CURSOR) if isinstance(after, str) and after.startswith(_CURSOR) else ""
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS and int(number) in _INTEGER):
        raise JobOptionError(f"after={after!r} is not the `next` of a page")
    return int(number)
