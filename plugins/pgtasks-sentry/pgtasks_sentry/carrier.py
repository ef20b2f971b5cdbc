"""How Sentry's trace travels with a job: as flags `@sentry-trace=…`, which claims do not tell jobs apart by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sentry_sdk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADERS: Final = {"@sentry-trace=": "sentry-trace", "@sentry-baggage=": "baggage"}
_LONGEST: Final = 2_000


def current_flags() -> tuple[str, ...]:
    """Return the flags that carry the current trace."""
    values = {"sentry-trace": sentry_sdk.get_traceparent(), "baggage": sentry_sdk.get_baggage()}
    return tuple(
        f"{mark}{value}" for mark, header in _HEADERS.items() if (value := values[header]) and len(value) <= _LONGEST
    )


def with_flags(flags: Sequence[str] | None, added: tuple[str, ...]) -> tuple[str, ...]:
    """Return `flags` and the `added` ones, in place of what they may carry already."""
    return (*(flag for flag in flags or () if not flag.startswith(tuple(_HEADERS))), *added)


def headers_of(flags: Iterable[str]) -> dict[str, str]:
    """Return the trace that a job's flags carry, as headers."""
    found = {}
    for flag in flags:
        for mark, header in _HEADERS.items():
            if flag.startswith(mark):
                found[header] = flag.removeprefix(mark)
    return found
