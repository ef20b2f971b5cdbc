"""How many CPUs this process may use: what the machine has, less what affinity and a container's limit take away."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of CPUs that this process may keep busy, at least 1.

    A container that is limited to two CPUs still sees all of its host's; a process for each of them would only fight
    over the quota. A quota of 1.5 CPUs counts as 2.

    Args:
        cgroup: Where the control groups are mounted (version 2, or version 1's `cpu` controller below it).
    """
    # Not on macOS.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cpus, math.ceil(quota))) if quota else cpus


def _quota(cgroup: Path) -> float | None:
    try:
        if (limit := cgroup / "cpu.max").exists():
            quota, period = limit.read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no control groups here, or no limit ("max")
