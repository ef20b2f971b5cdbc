"""What users write on a command line: times, delays, payloads, ids and keys of jobs, options of jobs."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from pgtasks import codec
from pgtasks.errors import JobOptionError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STANDARD_INPUT: Final = "-"

_DELAY: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_ID: Final = re.compile(r"[0-9]{1,19}")
_LARGEST_ID: Final = 2**63 - 1


def moment(text: str) -> dt.datetime:
    """Return the aware datetime that ISO 8601 with a zone stands for; the `type` of an option.

    Raises:
        click.BadParameter: It is not ISO 8601, or says no zone.
    """
    try:
        parsed = dt.datetime.fromisoformat(text)
    except ValueError as error:
        # Python says of a well-formed date that is in no calendar what is wrong with it, and of the rest nothing.
        why = "" if "Invalid isoformat" in str(error) else f" ({error})"
        raise click.BadParameter(
            f"{text!r} is not a time{why}: write it as {_example(dt.datetime.now().astimezone())}"
        ) from None
    if parsed.utcoffset() is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {_zoned(parsed)}")
    return parsed


def delay(text: str) -> float:
    """Return the seconds that `90`, `90s`, `5m`, `2h` or `1d` stands for; the `type` of an option.

    Raises:
        click.BadParameter: It is no such time span.

    >>> delay("90"), delay("5m")
    (90.0, 300.0)
    """
    match = _DELAY.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time span: write 90 or 90s for seconds, or 5m, 2h, 1d")
    return float(match["number"]) * _SECONDS[match["unit"]]


def read_payload(text: str | None) -> Any:
    """Return the value of a payload that was given as JSON, or, for `-`, of what stands on standard input.

    Raises:
        PayloadError: It is not JSON, or JSON that would not be stored as it was written.
    """
    if text is None:
        return None
    source = "the payload"
    if text == STANDARD_INPUT:
        source = "the payload on standard input"
        text = _standard_input()
        if not text.strip():
            raise PayloadError("standard input is empty: no payload")
    elif not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise PayloadError(f"{source} is not UTF-8")
    _check_json(text, source)
    value = codec.decode(text)
    if value is None:
        raise PayloadError(f"{source} is null, which stands for no payload: leave it out, and the job gets {{}}")
    return value


def read_ids(given: Iterable[str]) -> list[int]:
    """Return the ids of jobs that the arguments name; `-` stands for those on standard input, one a line.

    A line may also be a job as `--json` shows it. An id that is given twice counts once.

    Raises:
        click.UsageError: Something is not the id of a job.
    """
    return list(dict.fromkeys(_id(text, where) for text, where in _words(given)))


def read_lines(given: Iterable[str]) -> list[str]:
    """Return the arguments, each once; `-` stands for the lines of standard input that are not empty."""
    return list(dict.fromkeys(text for text, _ in _words(given)))


@contextmanager
def options_as_written(**names: str) -> Iterator[None]:
    """Let an error about an option of a job call it by the name that it has on the command line.

    Args:
        **names: By the name of the option in Python, what to call it if that is not `--` and the same name.

    Raises:
        click.UsageError: An option of a job cannot be stored.
    """
    try:
        yield
    except JobOptionError as error:
        message = str(error)
        found = re.match(r"(?P<name>[a-z_]+)(?P<sign>=| (?=must|has |holds ))", message)
        if found is not None:
            name = names.get(found["name"], f"--{found['name'].replace('_', '-')}")
            message = f"{name} {message[found.end() :]}"
        raise click.UsageError(message, click.get_current_context(silent=True)) from error


def _words(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give what the arguments stand for, each with the place it was found in."""
    for argument in given:
        if argument == STANDARD_INPUT:
            for number, line in enumerate(_standard_input().split("\n"), start=1):
                if line.strip():
                    yield line.removesuffix("\r"), f"line {number} of standard input: "
        else:
            yield argument, ""


def _id(text: str, where: str) -> int:
    text = text.strip()
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["id"])
        except (ValueError, KeyError, RecursionError):
            raise click.UsageError(f"{where}{shown!r} is not a job in JSON, with its 'id'") from None
    if _ID.fullmatch(text) is None or not 0 < int(text) <= _LARGEST_ID:
        raise click.UsageError(f"{where}{shown!r} is not the id of a job, which is a whole number such as 42")
    return int(text)


def _check_json(text: str, source: str) -> None:
    """Raise unless `text` is JSON in which no object has a key twice.

    PostgreSQL stores both, and whoever reads them takes one of them: nobody means that.
    """
    try:
        json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise PayloadError(f"{source} is not JSON: {reason}, at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise PayloadError(f"{source} is nested too deeply") from None
    except _WrongPartError as error:
        raise PayloadError(f"{source} {error}") from None


class _WrongPartError(Exception):
    """Something in JSON that parses."""


def _object(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _WrongPartError(f"has the key {key!r} twice in one object: only one of them would count")
        seen.add(key)


def _refuse_constant(name: str) -> Any:
    raise _WrongPartError(f"is not JSON: it has no {name}")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as problem:
        raise click.UsageError(f"standard input is not UTF-8, at byte {problem.start + 1}") from None


def _zoned(moment: dt.datetime) -> str:
    """Show how a time without a zone is to be written."""
    utc = moment.replace(tzinfo=dt.UTC)
    try:
        local = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return _example(utc)
    if not local.utcoffset():
        return f"{_example(utc)} for UTC"
    return f"{_example(local)} for the time of this machine, or {_example(utc)} for UTC"


def _example(moment: dt.datetime) -> str:
    text = moment.replace(microsecond=0).isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
