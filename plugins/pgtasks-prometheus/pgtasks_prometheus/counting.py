"""What a worker process counts.

All of it is called in the one thread in which the plugin is told things, so nothing here takes a lock.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from pgtasks_prometheus.cells import CellFile
from pgtasks_prometheus.layout import (
    BUCKETS,
    CLAIMED,
    CLAIMS,
    DATABASE_ERRORS,
    HISTOGRAM_CELLS,
    HOOK,
    LAG,
    OUTCOMES,
    PROCESS,
    RETRIES,
    RUN,
    TASK,
    TIMEOUTS,
    VERSION,
    WAIT,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pgtasks import Job
    from pgtasks.plugins import JobEnd
    from pgtasks_prometheus.cells import Cells

_SUM: Final = HISTOGRAM_CELLS - 1
_YEAR_2000: Final = 946_684_800.0
"""Where the database's times begin, by ours."""
_CELL_OF: Final = {outcome: cell for cell, outcome in enumerate(OUTCOMES)}


class Counting:
    """Counts what happens in this process, in a file.

    Args:
        path: of the file.
        tasks: those that may run here, which are shown from the start, so that their first jobs are seen as an
            increase.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, tasks: Iterable[str]) -> None:
        self._file = CellFile(path, VERSION)
        self._process = self._file.add((PROCESS.name,), PROCESS.size)
        self._tasks = {task: self._add_task(task) for task in tasks}
        self._hooks: dict[tuple[str, str], Cells] = {}

    def claimed(self, jobs: Sequence[Job]) -> None:
        """Count a claim, and how late its jobs were taken: both by the database's clock."""
        if jobs:
            self._process[CLAIMS] += 1
        for job in jobs:
            cells = self._of(job.task)
            cells[CLAIMED] += 1
            lag = (job.locked_micros - job.due_micros) / 1e6
            cells[LAG + bisect_left(BUCKETS, lag)] += 1
            cells[LAG + _SUM] += lag

    def timed_out(self, job: Job) -> None:
        """Count a job that was asked to stop over its time limit."""
        self._of(job.task)[TIMEOUTS] += 1

    def finished(self, end: JobEnd) -> None:
        """Count a run that has ended, for how long its job had waited, and for how long it ran.

        All is counted here, and nothing when it starts: each hook that is called for every job costs more than what is
        done in it.
        """
        job, seconds = end.job, end.seconds
        cells = self._of(job.task)
        cells[_CELL_OF[end.outcome if end.state == "deleted" else end.state]] += 1
        if job.attempts > 1:
            cells[RETRIES] += 1
        cells[RUN + bisect_left(BUCKETS, seconds)] += 1
        cells[RUN + _SUM] += seconds
        if end.began:
            began = time.time() - (time.monotonic() - end.began)
            # A clock that is behind the database's would have jobs start before they are due.
            waited = max(0.0, began - _YEAR_2000 - job.due_micros / 1e6)
            cells[WAIT + bisect_left(BUCKETS, waited)] += 1
            cells[WAIT + _SUM] += waited

    def database_error(self) -> None:
        """Count that the database is away."""
        self._process[DATABASE_ERRORS] += 1

    def hook_error(self, plugin: str, hook: str) -> None:
        """Count a failure of a hook of some plugin's."""
        cells = self._hooks.get((plugin, hook))
        if cells is None:
            cells = self._hooks[plugin, hook] = self._file.add((HOOK.name, plugin, hook), HOOK.size)
        cells[0] += 1

    def _of(self, task: str) -> Cells:
        return self._tasks.get(task) or self._add_later(task)

    def _add_later(self, task: str) -> Cells:
        cells = self._tasks[task] = self._add_task(task)
        return cells

    def _add_task(self, task: str) -> Cells:
        return self._file.add((TASK.name, task), TASK.size)
