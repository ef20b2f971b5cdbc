"""From the moment at which all workers may begin to the last job that is gone, by what the database or Redis holds.

Looking must cost next to nothing, since it happens on the machine that is measured: while jobs are being done, one row
is looked at by its key, and all are counted only when the last of them is done.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.results import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

LOOK = 0.002  # seconds between two looks
ARRIVAL = 25.0  # seconds for all workers to come; less than what a claim may take, since the first waits
STALLED = 300.0  # seconds without the first or the last job being done


class Counter(Protocol):
    """Tells how far the jobs have got."""

    def begun(self) -> bool:
        """Whether the first job has been done."""

    def ending(self) -> bool:
        """Whether the last job has been done, though others may not have been."""

    def left(self) -> int:
        """How many jobs have not been done."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of jobs, with numbers that rise in the order in which they are done."""

    connection: Connection[Any]
    name: str
    pending: str = "true"
    """What is so of a row whose job has not been done."""

    def counter(self) -> TableCounter:
        """Begin to count, with all jobs there and none begun."""
        row = self.connection.execute(f"select min(id), max(id) from {self.name}").fetchone()
        assert row is not None
        if row[0] is None:
            raise MeasurementError("there are no jobs")
        return TableCounter(self, *row)

    def left(self) -> int:
        """How many rows are not done."""
        row = self.connection.execute(f"select count(*) from {self.name} where {self.pending}").fetchone()
        assert row is not None
        return int(row[0])

    @contextmanager
    def gate(self, processes: int) -> Iterator[None]:
        """Keep everybody from the table, until so many sessions wait for it after the block.

        So start-up does not count, and all begin at the same time.

        Raises:
            MeasurementError: They did not come.
        """
        with self.connection.transaction():
            self.connection.execute(f"lock table {self.name} in access exclusive mode")
            yield
            limit = time.monotonic() + ARRIVAL
            while (waiting := self._waiting()) < processes:
                if time.monotonic() > limit:
                    raise MeasurementError(f"{waiting} of {processes} workers wanted jobs within {ARRIVAL:g} s")
                time.sleep(LOOK)

    def _waiting(self) -> int:
        row = self.connection.execute(
            "select count(distinct pid) from pg_locks where relation = %s::regclass and not granted", (self.name,)
        ).fetchone()
        assert row is not None
        return int(row[0])


@dataclass(frozen=True, slots=True)
class TableCounter:
    """Counts rows of a table."""

    table: Table
    first: int
    last: int

    def begun(self) -> bool:
        """Whether the first row is done."""
        return not self.is_pending(self.first)

    def ending(self) -> bool:
        """Whether the last row is done."""
        return not self.is_pending(self.last)

    def left(self) -> int:
        """How many rows are not done."""
        return self.table.left()

    def is_pending(self, number: int) -> bool:
        """Whether this row is not done."""
        row = self.table.connection.execute(
            f"select from {self.table.name} where id = %s and {self.table.pending}", (number,)
        ).fetchone()
        return row is not None


def drained(counter: Counter, jobs: int, opened: float | None, alive: Callable[[], bool]) -> float:
    """Wait until all jobs are done, and return how many were done in a second.

    Args:
        counter: Tells how far they have got.
        jobs: How many there are.
        opened: When all workers could begin, by `time.perf_counter`; None if it is not known, and the first job that
            is done tells it.
        alive: Whether somebody works on them.
    """
    if opened is None:
        until(counter.begun, alive)
        jobs, opened = counter.left(), time.perf_counter()
        if jobs == 0:
            raise MeasurementError("the jobs were done before they could be counted: more of them are needed (--jobs)")
    until(counter.ending, alive)
    until(lambda: counter.left() == 0, alive)
    return jobs / (time.perf_counter() - opened)


def until(condition: Callable[[], bool], alive: Callable[[], bool], seconds: float = STALLED) -> None:
    """Wait for something that takes `seconds` at most."""
    limit = time.monotonic() + seconds
    while not condition():
        if not alive():
            raise MeasurementError("the worker ended before its jobs did")
        if time.monotonic() > limit:
            raise MeasurementError(f"no end after {seconds:g} s")
        time.sleep(LOOK)
