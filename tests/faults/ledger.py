"""The ledger: what jobs did and what was done to them, in one order.

It is a file, and not a table of the database that the queue is in: that one is stopped and cut off here. Each entry is
one line, appended by one system call. So the order of the lines is the order of what happened, for all processes,
without a clock; and a process that is killed leaves what it wrote.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

PLACE: Final = "FAULTS_LEDGER"
"""The environment variable that tells workers where it is."""


def append(place: str | Path, **entry: Any) -> None:
    """Write one entry."""
    line = json.dumps({**entry, "at": time.monotonic()}).encode() + b"\n"
    file = os.open(place, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)


@dataclass(eq=False)
class Run:
    """One run of a job."""

    job: int
    attempt: int
    pid: int
    worker: str
    queue: str | None
    at: float
    """When it began, in seconds of the monotonic clock, for measuring."""
    end: str | None = None
    """`succeeded`, `failed` (as it was told to) or `broken` (by any other exception); None: it did not end."""


@dataclass(eq=False)
class Fault:
    """Something that was done to processes, or that a job did to its own."""

    what: str
    pids: tuple[int, ...]
    at: float
    open: list[Run]
    """The runs in these processes that had begun and not ended."""


@dataclass
class Story:
    """All entries, understood."""

    runs: list[Run] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    overlaps: list[tuple[Run, Run]] = field(default_factory=list)
    """Runs in one queue of which the second began before the end of the first, whose process had met with nothing."""

    def of_job(self, job: int) -> list[Run]:
        """Return the runs of a job, in the order in which they began."""
        return [run for run in self.runs if run.job == job]


class Ledger:
    """The ledger, as the test reads it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.touch()
        self._entries: list[dict[str, Any]] = []
        self._read_to = 0

    def fault(self, what: str, pids: Iterable[int]) -> None:
        """Note a fault, just before it is done."""
        append(self.place, what=what, pids=list(pids))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All complete entries until now."""
        with self.place.open("rb") as file:
            file.seek(self._read_to)
            lines, newline, _ = file.read().rpartition(b"\n")
        if newline:
            self._read_to += len(lines) + 1
            self._entries += [json.loads(line) for line in lines.split(b"\n")]
        return self._entries

    def ended(self) -> int:
        """Return how many runs have succeeded or failed."""
        return sum("end" in entry for entry in self.entries)

    def deaths(self) -> list[tuple[int, str]]:
        """Return which jobs have killed their process, and at which instant of their transaction, in order."""
        return [(entry["of"], entry["when"]) for entry in self.entries if "when" in entry]

    def jobs_of(self, pid: int) -> set[int]:
        """Return the jobs that have begun in a process."""
        return {entry["job"] for entry in self.entries if entry.get("pid") == pid}

    def first_run(
        self, since: float, *, jobs: Collection[int] | None = None, pids: Collection[int] | None = None
    ) -> float | None:
        """Return when the first run after `since` began, of these jobs and in these processes if they are given."""
        for entry in self.entries:
            if "job" not in entry or "end" in entry or entry["at"] <= since:
                continue
            if (jobs is None or entry["job"] in jobs) and (pids is None or entry["pid"] in pids):
                return float(entry["at"])
        return None

    def story(self) -> Story:
        """Return what has happened until now."""
        story = Story()
        open_runs: dict[tuple[int, int, int], Run] = {}
        hurt: set[int] = set()
        for entry in self.entries:
            if "what" in entry:
                pids = tuple(entry["pids"])
                hurt.update(pids)
                left = [run for run in open_runs.values() if run.pid in pids]
                story.faults.append(Fault(entry["what"], pids, entry["at"], left))
                continue
            key = (entry["job"], entry["attempt"], entry["pid"])
            if "end" in entry:
                open_runs.pop(key).end = entry["end"]
                continue
            run = Run(*key, entry["worker"], entry["queue"], entry["at"])
            if run.queue is not None:
                story.overlaps += [
                    (other, run) for other in open_runs.values() if other.queue == run.queue and other.pid not in hurt
                ]
            open_runs[key] = run
            story.runs.append(run)
        return story
