"""Crontab files: `minute hour day month weekday task ?options {payload}`, one entry a line.

The dialect is that of Graphile Worker, so that one file serves both. All mistakes of a file are told at once, each with
its line and column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote_plus

from pgtasks import codec
from pgtasks.cron.entry import CronEntry, check_id, check_key_mode
from pgtasks.cron.fields import KINDS, FieldError
from pgtasks.cron.schedule import Schedule, find_zone
from pgtasks.cron.spans import read_span
from pgtasks.errors import CronError, JobOptionError, PayloadError, did_you_mean
from pgtasks.job import check_job_key, check_max_attempts, check_priority, check_queue, check_task_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_WORD: Final = re.compile(r"\S+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:/-]*")
"""What tasks and entries may be called here."""
_AFTER_TASK: Final = re.compile(r"\{|\?.*=")
_JSON5_ERROR: Final = re.compile(r"<string>:1 (?:Unexpected )?(.*?) (?:at|near) column (\d+)", re.DOTALL)
_MOST_PROBLEMS: Final = 20
"""How many mistakes one message tells."""


@dataclass(frozen=True, slots=True)
class CrontabProblem:
    """Something that is wrong in a crontab, and where."""

    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    message: str
    level: Literal["error", "warning"] = "error"
    """Whether the file cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class CrontabLine:
    """A line that is an entry, and where its task is named."""

    entry: CronEntry
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab that was read, as far as that could be done."""

    name: str
    """What messages call the file."""
    lines: tuple[CrontabLine, ...]
    """Those without mistakes."""
    problems: tuple[CrontabProblem, ...]
    """In the order of lines."""

    @property
    def errors(self) -> list[CrontabProblem]:
        """The mistakes without which it could be used."""
        return [problem for problem in self.problems if problem.level == "error"]

    def entries(self) -> list[CronEntry]:
        """Return its entries.

        Raises:
            CronError: it has mistakes; the message tells each with its line and column.
        """
        if errors := self.errors:
            told = [f"{self.name}:{each.line}:{each.column}: {each.message}" for each in errors[:_MOST_PROBLEMS]]
            if len(errors) > _MOST_PROBLEMS:
                told.append(f"and {len(errors) - _MOST_PROBLEMS} more")
            raise CronError("\n".join(told))
        return [line.entry for line in self.lines]

    def unknown_tasks(self, names: Collection[str]) -> list[CrontabProblem]:
        """Return a warning for each line whose task has none of the names of those that are registered."""
        return [
            CrontabProblem(line.line, line.column, unknown_task(line.entry.task, names), "warning")
            for line in self.lines
            if line.entry.task not in names
        ]


def unknown_task(task: str, names: Collection[str]) -> str:
    """Return what is said of a task that is not registered here, with the nearest of those that are."""
    hint = did_you_mean(task, names) or "; its jobs wait until a worker has it"
    return f"task {task!r} is not registered{hint}"


def load_crontab(path: Path) -> Crontab:
    """Read a crontab file, mistakes included.

    Raises:
        CronError: it is not there, or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CronError(f"the crontab {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CronError(f"the crontab {path} is not encoded in UTF-8: byte {error.start + 1} cannot be read") from None
    return parse_crontab(text, str(path))


def parse_crontab(text: str, name: str = "crontab") -> Crontab:
    """Read the text of a crontab.

    Args:
        text: the whole file.
        name: what messages call it.
    """
    lines: list[CrontabLine] = []
    problems: list[CrontabProblem] = []
    known: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        reader = _LineReader(line, f"{name}:{number}")
        try:
            entry = reader.read()
            if (first := known.setdefault(entry.id, number)) != number:
                raise _Mistake(_taken(entry, first), reader.id_offset)
            lines.append(CrontabLine(entry, number, reader.task_offset + 1))
        except _Mistake as mistake:
            problems.append(CrontabProblem(number, mistake.offset + 1, str(mistake)))
        problems += [CrontabProblem(number, offset + 1, what, "warning") for what, offset in reader.warnings]
    return Crontab(name, tuple(lines), tuple(problems))


def _taken(entry: CronEntry, line: int) -> str:
    return (
        f"the entry {entry.id!r} is there already, at line {line}; give one of them another name, "
        f"as in '?id={entry.id}_2'"
    )


class _Mistake(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong in a line, and how many characters of the line stand before it."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class _LineReader:
    """Reads one line."""

    def __init__(self, line: str, source: str) -> None:
        self._line = line
        self._source = source
        self._end = len(line)
        self.task_offset = 0
        self.id_offset = 0
        """Where its name stands: the option, or else the task."""
        self.warnings: list[tuple[str, int]] = []

    def read(self) -> CronEntry:
        """Return the entry.

        Raises:
            _Mistake: it is none.
        """
        words = list(_WORD.finditer(self._line))
        count = 1 if words[0][0].startswith("@") else len(KINDS)
        start, end = words[0].start(), words[min(count, len(words)) - 1].end()
        fields = self._line[start:end]
        before_payload = next((i for i, word in enumerate(words) if _AFTER_TASK.match(word[0])), len(words))
        try:
            Schedule(fields)
        except FieldError as error:
            if before_payload <= count > 1:
                raise _too_few(words[:before_payload], self._end) from None
            raise _Mistake(str(error), start + error.offset) from None
        if before_payload <= count:
            raise _Mistake("a line names a task after the times, and here is none", end)
        task = self._task(words[count])
        options, payload = self._rest(words[count].end())
        timezone = options.pop("timezone", "UTC")
        schedule = Schedule(fields, timezone)
        if schedule.is_never:
            self.warnings.append(("there is no such day in any year: the task is never run", start))
        return CronEntry(
            id=options.pop("id", task), task=task, schedule=schedule, source=self._source, payload=payload, **options
        )

    def _task(self, word: re.Match[str]) -> str:
        task, self.task_offset, self.id_offset = word[0], word.start(), word.start()
        if _NAME.fullmatch(task):
            try:
                check_task_name(task)
            except JobOptionError as error:
                raise _Mistake(str(error), word.start()) from None
            return task
        if re.fullmatch(r"[0-9*/,-]+", task):
            raise _Mistake(f"{task!r} is no task: five fields come before it, without seconds", word.start())
        known = re.match(_NAME, task)
        raise _Mistake(
            f"{task!r} cannot be a task here: names begin with a letter or _ and go on with letters, digits, _ : - /; "
            "tasks with other names can be given times in code, by @task.cron",
            word.start() + (known.end() if known else 0),
        )

    def _rest(self, offset: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
        options: dict[str, Any] = {}
        if (word := _WORD.search(self._line, offset)) is not None and word[0].startswith("?"):
            options = self._options(word[0][1:], word.start() + 1)
            word = _WORD.search(self._line, word.end())
        if word is None:
            return options, None
        if not word[0].startswith("{"):
            raise _Mistake(_stray(word[0]), word.start())
        return options, self._payload(word.start())

    def _options(self, text: str, offset: int) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if not text:
            raise _Mistake("'?' has to be followed by options, as in '?max=3&queue=mail'", offset)
        seen = set()
        for piece in text.split("&"):
            if piece:
                key, equals, value = piece.partition("=")
                key = unquote_plus(key)
                if key not in _OPTIONS:
                    raise _Mistake(_no_option(key), offset)
                if key in seen:
                    raise _Mistake(f"option {key!r} is given twice; leave one of them out", offset)
                seen.add(key)
                if key == "id":
                    self.id_offset = offset
                name, read = _OPTIONS[key]
                if not equals or not value:
                    raise _Mistake(f"option {key!r} has no value; write '{key}=…'", offset + len(key))
                try:
                    options[name] = read(unquote_plus(value))
                except (CronError, JobOptionError) as error:
                    # Messages of options speak of their names in Python.
                    message = str(error).replace(f"{name}=", f"{key}=")
                    raise _Mistake(message, offset + len(piece) - len(value)) from None
            offset += len(piece) + 1
        if "job_key_mode" in options and "job_key" not in options:
            del options["job_key_mode"]
            self.warnings.append(("jobKeyMode does nothing without a jobKey", self._line.index("jobKeyMode")))
        return options

    def _payload(self, offset: int) -> dict[str, Any]:
        import json5  # noqa: PLC0415 - for crontabs with payloads alone

        text = self._line[offset:]
        try:
            # Once more by our codec: it knows what JSON cannot hold, and json5 leaves surrogate pairs apart.
            value = codec.decode(codec.encode(json5.loads(text, parse_float=codec.exact_number)))
        except PayloadError as error:
            raise _Mistake(str(error), offset) from None
        except ValueError as error:
            raise self._no_json5(str(error), text, offset) from None
        assert isinstance(value, dict)  # it begins with a brace
        return value

    def _no_json5(self, message: str, text: str, offset: int) -> _Mistake:
        found = _JSON5_ERROR.fullmatch(message)
        what, position = (found[1], int(found[2]) - 1) if found else (message, 0)
        position = min(position, len(text))
        if what == "end of input":
            return _Mistake("the payload has no end: it is one object, {…}, on one line", self._end)
        rest = text[position:].lstrip()
        if text[:position].rstrip().endswith("}"):
            if rest.startswith("#"):
                return _Mistake(_stray(rest), offset + position)
            if rest.startswith("?"):
                return _Mistake("options stand before the payload, not after it", offset + position)
        return _Mistake(f"the payload is no JSON5: unexpected {what.replace(chr(34), chr(39))}", offset + position)


def _too_few(words: list[re.Match[str]], end: int) -> _Mistake:
    names_task = bool(words) and _NAME.fullmatch(words[-1][0]) is not None
    return _Mistake(
        f"five fields come before the task, minute hour day month weekday, and here are {len(words) - names_task}",
        words[-1].start() if names_task else end,
    )


def _stray(word: str) -> str:
    if word.startswith("#"):
        return "a comment needs a line of its own"
    if word.startswith("&"):
        return "options have no spaces between them; write a space in a value as '+'"
    if word.startswith(("[", '"', "'")):
        return "a payload is one JSON5 object, {…}"
    if "=" in word:
        return f"options begin with '?'; write '?{word}'"
    return f"{word!r} cannot be read: after the task come '?options', and then a payload, '{{…}}'"


def _no_option(key: str) -> str:
    meant = _CALLED_OTHERWISE.get(key.lower().replace("_", "").replace("-", ""))
    hint = f"; did you mean {meant!r}?" if meant else did_you_mean(key, _OPTIONS)
    return f"there is no option {key!r}{hint or '; there are ' + ', '.join(_OPTIONS)}"


def _read_id(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise CronError(f"id={text!r} must begin with a letter or _, and go on with letters, digits, _ : - /")
    check_id(text)
    return text


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    def read(text: str) -> str:
        check(text)
        return text

    return read


def _number(name: str, check: Callable[[int], None]) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise CronError(f"{name}={text!r} must be a whole number")
        check(int(text))
        return int(text)

    return read


def _read_fill(text: str) -> float:
    try:
        return read_span(text)
    except CronError as error:
        raise CronError(f"backfill={error}") from None


_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "id": ("id", _read_id),
    "fill": ("backfill", _read_fill),
    "max": ("max_attempts", _number("max_attempts", check_max_attempts)),
    "queue": ("queue", _checked(check_queue)),
    "jobKey": ("job_key", _checked(check_job_key)),
    "jobKeyMode": ("job_key_mode", _checked(check_key_mode)),
    "priority": ("priority", _number("priority", check_priority)),
    "tz": ("timezone", _checked(find_zone)),
}
"""Options by their names here: the entry's field, and what reads its value. `tz` is ours alone."""
_CALLED_OTHERWISE: Final = {
    "backfill": "fill",
    "maxattempts": "max",
    "attempts": "max",
    "queuename": "queue",
    "jobkey": "jobKey",
    "key": "jobKey",
    "jobkeymode": "jobKeyMode",
    "timezone": "tz",
    "identifier": "id",
    "name": "id",
}
"""What the options are called elsewhere, without underscores."""
