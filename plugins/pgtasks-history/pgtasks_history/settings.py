"""The plugin's settings."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_SPAN: Final = re.compile(r"(?:\d+[wdhms])+")
_LONGEST: Final = dt.timedelta(days=36_500)


def span(text: object) -> dt.timedelta:
    """Return a time span as people write it: `90s`, `12h`, `30d`, `1w2d`.

    >>> span("1d12h")
    datetime.timedelta(days=1, seconds=43200)

    Raises:
        ValueError: it is none, or longer than a hundred years.
    """
    if isinstance(text, dt.timedelta):
        return text
    if not isinstance(text, str) or not _SPAN.fullmatch(text):
        raise ValueError("write a number with w, d, h, m or s: 12h, 30d, 1w2d")
    try:
        found = sum(
            (dt.timedelta(**{_UNITS[unit]: int(number)}) for number, unit in re.findall(r"(\d+)([wdhms])", text)),
            dt.timedelta(),
        )
    except (OverflowError, ValueError):  # too long, or a number with too many digits
        found = dt.timedelta.max
    if found > _LONGEST:
        raise ValueError("that is longer than 100 years; write none to keep everything")
    return found


def _keep(value: object) -> object:
    return None if value is None or value == "none" else span(value)


class HistorySettings(BaseModel):
    """`[tool.pgtasks.plugin.history]`, or `PGTASKS_PLUGIN_HISTORY__KEEP` and so on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Annotated[dt.timedelta | None, BeforeValidator(_keep)] = dt.timedelta(days=30)
    """How long a worker keeps what has ended; `none`: for ever."""
    payload: bool = False
    """Whether payloads are recorded too. The worker that has started last decides."""
