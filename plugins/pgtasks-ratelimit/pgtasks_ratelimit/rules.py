"""What limits say: reading rules such as `100/s burst 20, max 4 running`, and finding those that concern a job."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pgtasks.plugins import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgtasks import Job

PAYLOAD: Final = "payload:"
"""How the names of limits begin that are counted by a value in the payload."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RULE: Final = re.compile(
    r"(?:(\d{1,9}) ?/ ?(?:(\d{1,6}) ?)?(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?: burst (\d{1,9}))?)?"
    r"(?:(?:^|,? )max (\d{1,9}) running)?",
    re.ASCII,
)
_NAME: Final = re.compile(r"[^*]+\*?")
_LONGEST_NAME: Final = 200
_MOST_REMEMBERED: Final = 10_000
_LONGEST_VALUE: Final = 200


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as its rule says it."""

    name: str
    """A flag; the beginning of flags and `*`; or `payload:` and the path of a value."""
    tokens: int | None = None
    """So many starts in `period`; None: no rate."""
    period: float | None = None
    """Seconds."""
    burst: int | None = None
    """How many starts a bucket holds that nothing has started for long."""
    max_running: int | None = None
    """How many jobs run at a time; None: any number."""

    @property
    def by_payload(self) -> bool:
        """Whether it is counted by a value in the payload, which a claim cannot see."""
        return self.name.startswith(PAYLOAD)

    @property
    def seconds_per_token(self) -> float:
        """How many seconds apart tokens come in; 0 without a rate."""
        return self.period / self.tokens if self.tokens and self.period else 0.0

    @property
    def is_none(self) -> bool:
        """Whether it limits nothing."""
        return self.tokens is None and self.max_running is None


def parse_limit(name: str, rule: str) -> Limit:
    """Read a rule. `set_rate_limit` reads the same in the database.

    Raises:
        PluginError: the name or the rule cannot be used.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME or name == PAYLOAD or _is_payload_pattern(name):
        raise PluginError(
            f"limit {name!r}: a name is a flag, the beginning of flags followed by *, or payload: and the path of a "
            "value, such as payload:customer_id"
        )
    text = re.sub(r"\s+", " ", rule).strip().lower()
    if text == "unlimited":
        return Limit(name)
    match = _RULE.fullmatch(text)
    if match is not None:
        count, multiple, unit, burst, running = match.groups()
        numbers = [int(number) for number in (count, multiple, burst, running) if number is not None]
        if numbers and all(numbers):
            maximum = None if running is None else int(running)
            if count is None:
                return Limit(name, max_running=maximum)
            tokens, period = int(count), float(int(multiple or 1) * _UNITS[unit[0]])
            # A fifth of a second's worth, and two so that none is lost where a start is a little late, but not where
            # tokens come in slowly.
            default = max(2 if tokens > period else 1, int(tokens / period / 5))
            return Limit(name, tokens, period, int(burst or default), maximum)
    raise PluginError(
        f"limit {name!r}: cannot read {rule!r}: write a rate such as '100/s burst 20' or '10/minute', a cap such as "
        "'max 4 running', both with a comma between, or 'unlimited'; all numbers are at least 1"
    )


def _is_payload_pattern(name: str) -> bool:
    return name.startswith(PAYLOAD) and name.endswith("*")


class RateLimitSettings(BaseModel):
    """`[tool.pgtasks.plugin.ratelimit]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: dict[str, str] = Field(default_factory=dict)
    """Rules by flag, beginning of flags, or path in the payload."""
    refresh: float = Field(default=2.0, gt=0, le=3600)
    """Seconds after which a process looks again for limits that were set at run time."""

    @field_validator("limits")
    @classmethod
    def _check(cls, limits: dict[str, str]) -> dict[str, str]:
        problems = []
        for name, rule in limits.items():
            try:
                parse_limit(name, rule)
            except PluginError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return limits

    def parsed(self) -> dict[str, Limit]:
        """Return the limits by name."""
        return {name: parse_limit(name, rule) for name, rule in self.limits.items()}


class Rules:
    """Finds the buckets that a job needs: pairs of a bucket's key and its limit.

    Args:
        limits: all that there are; those of a flag win over those of its beginning, a longer beginning over a shorter.
    """

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limits = {limit.name: limit for limit in limits}
        self._flags = {
            name: limit for name, limit in self.limits.items() if not limit.by_payload and not name.endswith("*")
        }
        beginnings = [
            (name[:-1], limit) for name, limit in self.limits.items() if not limit.by_payload and name.endswith("*")
        ]
        self._beginnings = sorted(beginnings, key=lambda pair: -len(pair[0]))
        self._paths = [
            (limit.name.removeprefix(PAYLOAD).split("."), limit)
            for limit in self.limits.values()
            if limit.by_payload and not limit.is_none
        ]
        self._known: dict[str, Limit | None] = {}
        self.any = bool(self._flags or self._beginnings or self._paths)
        """Whether there are any limits."""

    def of_flag(self, flag: str) -> Limit | None:
        """Return the limit of a flag, if it has one."""
        try:
            return self._known[flag]
        except KeyError:
            pass
        limit = self._flags.get(flag)
        if limit is None:
            limit = next((limit for beginning, limit in self._beginnings if flag.startswith(beginning)), None)
        if limit is not None and limit.is_none:
            limit = None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[flag] = limit
        return limit

    def of_job(self, job: Job) -> list[tuple[str, Limit]]:
        """Return the keys and limits of all buckets that a job needs."""
        found = [(flag, limit) for flag in job.flags if (limit := self.of_flag(flag)) is not None]
        if self._paths:
            found += self._of_payload(job)
        return found

    def _of_payload(self, job: Job) -> list[tuple[str, Limit]]:
        try:
            payload = job.payload
        except Exception:  # noqa: BLE001 - such a job fails when it is started, and says why
            return []
        return [
            (f"{limit.name}={value}", limit)
            for path, limit in self._paths
            if (value := _value_at(payload, path)) is not None
        ]


def _value_at(payload: Any, path: list[str]) -> str | None:
    """Return what stands at a path of an object, as text; None if there is nothing that could be told apart."""
    value = payload
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return None
        value = value[step]
    if value is None:
        return None
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    except ValueError:
        return None
    # Null characters cannot be stored, and lone surrogates cannot be sent.
    text = text.encode("utf-8", "replace").decode().replace("\0", "")
    return text if len(text) <= _LONGEST_VALUE else f"{text[:64]}…{_digest(text)}"


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415 - hardly ever needed

    return hashlib.sha256(text.encode()).hexdigest()[:32]


def effective(own: Mapping[str, Limit], stored: Iterable[Limit]) -> Rules:
    """Return the rules that hold: those of the settings, and before them those that were set at run time."""
    return Rules({**own, **{limit.name: limit for limit in stored}}.values())
