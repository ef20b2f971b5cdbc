"""How a trace travels with a job: as flags `@traceparent=…`.

A flag is added by the same statement as the job, and whoever knows nothing of it ignores it. One that begins with `@`
belongs to one job: it is not among what claims tell jobs apart by, so that each may have another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import propagate
from opentelemetry.context import Context

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_MARK: Final = "@"
_LONGEST: Final = 2_000
"""Characters that a value may have: a tracestate has 512, baggage has no limit that is kept to."""


def flags_of(context: Context, fields: Collection[str]) -> tuple[str, ...]:
    """Return the flags that carry what the propagators say of `context`."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    return tuple(
        f"{_MARK}{field}={value}"
        for field, value in carrier.items()
        if field in fields and len(value) <= _LONGEST and "\0" not in value
    )


def with_flags(flags: Sequence[str] | None, added: tuple[str, ...], fields: Collection[str]) -> tuple[str, ...] | None:
    """Return `flags` and the `added` ones, in place of what they may carry already."""
    if not flags:
        return added or None
    carried = tuple(f"{_MARK}{field}=" for field in fields)
    return (*(flag for flag in flags if not flag.startswith(carried)), *added)


def context_of(flags: Iterable[str], fields: Collection[str]) -> Context:
    """Return the context that a job's flags carry, an empty one if they carry none."""
    carrier = {}
    for flag in flags:
        if flag.startswith(_MARK):
            field, equals, value = flag[1:].partition("=")
            if equals and field in fields:
                carrier[field] = value
    context = Context()
    return propagate.extract(carrier, context) if carrier else context
