"""Calling the exchange by hand, and what has to hold of starts."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgtasks_ratelimit.rules import parse_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
LIFETIME = 2.0


@dataclass(frozen=True)
class Taken:
    lease: int
    granted: int
    starts_in: float
    wait: float


def exchange(
    conn: psycopg.Connection[Any],
    holder: str,
    rule: str,
    wanted: int,
    *,
    key: str = "stripe",
    name: str | None = None,
    lease: int = 0,
    used: int = 0,
    age: float = 0.0,
    busy: int = 0,
    ahead: float = 0.0,
    at: float | None = None,
    schema: str = "graphile_worker",
) -> Taken:
    limit = parse_limit(name or key, rule)
    new = random.getrandbits(62)
    time = None if at is None else EPOCH + dt.timedelta(microseconds=round(at * 1e6))
    row = conn.execute(
        f"""select granted, starts_in, wait from "{schema}"._pgtasks_ratelimit_exchange(
            %s, %s, %s, array[%s], array[%s], array[%s]::int[], array[%s]::float8[], array[%s]::int[],
            array[%s]::int[], array[%s]::bigint[], array[%s]::int[], array[%s]::float8[], array[%s]::int[],
            array[%s]::int[], array[%s]::float8[], %s)""".encode(),
        (
            holder, new, LIFETIME, key, limit.name, limit.tokens, limit.period, limit.burst, limit.max_running,
            lease, used, age, busy, wanted, ahead, time,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None
    return Taken(new, *row)


def excess(starts: Sequence[float], rate: float, burst: int) -> float:
    """By how much starts exceed rate * time + burst in the worst of all spans of time; at most 0 is right."""
    # The content of a bucket, for which the worst span is the one since it was last full.
    level, last, worst = float(burst), None, 0.0
    for start in sorted(starts):
        if last is not None:
            level = min(float(burst), level + (start - last) * rate)
        level -= 1
        last = start
        worst = max(worst, -level)
    return worst
