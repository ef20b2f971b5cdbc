"""What a run's figures depend on: versions, cores, durability, and what else the machine is doing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_wal_size")
DURABLE = DURABILITY[:3]
BUSY = 0.3
"""Load per core from which on figures are not worth much."""


def conditions(connection: Connection[Any]) -> dict[str, str]:
    """Name all that a reader needs in order to judge the figures."""
    found = {
        "pgtasks": version("pgtasks"),
        "PostgreSQL": _setting(connection, "server_version"),
        "Python": platform.python_version(),
        "psycopg": f"{version('psycopg')} ({_psycopg_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": cpu_model(),
        "cores": str(usable_cores()),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    return found | {name: _setting(connection, name) for name in DURABILITY}


def warning(found: dict[str, str]) -> str | None:
    """Say if the machine is too busy for figures that mean something, or the server less durable than by default."""
    load, cores = os.getloadavg()[0], usable_cores()
    texts = []
    if load > BUSY * cores:
        texts.append(f"the machine is busy (load average {load:.1f} on {cores} cores): these figures say little")
    if off := [name for name in DURABLE if found.get(name) == "off"]:
        texts.append(f"not durable, since {' and '.join(off)} is off: a crash of this server loses jobs")
    return "; ".join(texts) or None


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.processor() or "unknown")


def _psycopg_implementation() -> str:
    from psycopg import pq  # noqa: PLC0415 - loads libpq

    return str(pq.__impl__)


def _setting(connection: Connection[Any], name: str) -> str:
    row = connection.execute("select current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])
