"""What measurements hand over, and the arithmetic of rounds."""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable


class MeasurementError(Exception):
    """A measurement could not be taken; the others go on."""


TROUBLE = (MeasurementError, psycopg.Error, OSError, subprocess.SubprocessError)
"""What keeps one figure from being taken, and is no mistake in the suite."""


class Role(StrEnum):
    """What a figure stands for in its group."""

    OURS = "pgtasks"
    PEER = "peer"
    LIMIT = "limit"
    """What the database can do with no framework around it."""
    BASELINE = "baseline"
    """What the other rows of the group are compared with."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure."""

    group: str
    """Figures of a group measure the same, and may be compared."""
    title: str
    value: float
    unit: str
    role: Role = Role.OURS
    low: float | None = None
    """The least of the rounds."""
    high: float | None = None
    """The greatest of the rounds."""
    references: dict[str, float] = field(default_factory=dict)
    """What else the figure is compared with, by name: what would be ideal, say."""
    short: str = ""
    """What others that are compared with it call it; its title by default."""
    at: dict[str, float | str] = field(default_factory=dict)
    """Under which of several conditions it was measured, by name, for plots."""
    series: list[tuple[float, float]] = field(default_factory=list)
    """How the figure came about: seconds from the beginning, and the figure from the point before to there."""


def rounds_of(
    run: Callable[[], float],
    rounds: int,
    *,
    group: str,
    title: str,
    unit: str = "jobs/s",
    role: Role = Role.OURS,
) -> Result:
    """Measure several times, and take the median."""
    return from_values([run() for _ in range(rounds)], group=group, title=title, unit=unit, role=role)


def from_values(
    values: list[float],
    *,
    group: str,
    title: str,
    unit: str,
    role: Role = Role.OURS,
    references: dict[str, float] | None = None,
    short: str = "",
    at: dict[str, float | str] | None = None,
) -> Result:
    """The median of values, with the least and the greatest."""
    return Result(
        group,
        title,
        statistics.median(values),
        unit,
        role,
        min(values),
        max(values),
        references or {},
        short,
        at or {},
    )


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
