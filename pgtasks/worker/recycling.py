"""When a worker process has had its day: after so many jobs, with so much memory, after so long.

The process itself notices and asks for a successor; it goes on working until that is ready. So the limits are about
where replacing begins, and nothing waits for it. Each process draws its own, up to a tenth lower, so that those that
began together are not replaced together.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgtasks.settings import Settings

_STATM = Path("/proc/self/statm")
_MEGABYTE = 1024 * 1024


class Recycling:
    """The limits of one process."""

    def __init__(self, settings: Settings) -> None:
        share = random.uniform(0.9, 1.0)  # noqa: S311 - jitter
        self._born = time.monotonic()
        self._jobs = 0
        self._most_jobs = settings.max_jobs and max(1, round(settings.max_jobs * share))
        self._most_memory = settings.max_memory
        self._longest = settings.max_lifetime and settings.max_lifetime * share

    def count(self, jobs: int) -> bool:
        """Note that so many more jobs have ended; returns whether that was the last one."""
        self._jobs += jobs
        return self._most_jobs is not None and self._jobs >= self._most_jobs

    def reason(self) -> str | None:
        """Return why the process is to be replaced, or None if it is not."""
        if self._most_jobs is not None and self._jobs >= self._most_jobs:
            return f"it has run {self._jobs} jobs"
        if self._longest is not None and (lived := time.monotonic() - self._born) >= self._longest:
            return f"it has lived for {lived:.0f} s"
        if self._most_memory is not None and (used := resident_megabytes()) >= self._most_memory:
            return f"it takes {used:.0f} MB of memory"
        return None


def resident_megabytes() -> float:
    """Return the memory that this process takes, also what it shares with others; on macOS, the most it ever took."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (_MEGABYTE if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize() / _MEGABYTE
