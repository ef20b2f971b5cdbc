"""The workers of all hosts: making them known, saying that they are alive, finding those that are dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from pgtasks.database import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.database import Row
    from pgtasks.sql import Statements

EVICTED: Final = "GWEVI"
"""SQLSTATE of a claim by a worker that somebody has retired."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where worker processes run."""

    id: str
    """Of its supervisor; the ids of its workers begin with it."""
    name: str
    version: str
    """The release of pgtasks there."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a worker process says of itself with a heartbeat."""

    worker_id: str
    pid: int
    running: int
    """Jobs that it runs now."""
    succeeded: int
    """Jobs that have succeeded since it was started."""
    failed: int
    """Attempts that have failed since it was started."""


class Census(NamedTuple):
    """What a heartbeat tells."""

    evicted: tuple[str, ...]
    """Those of the caller's workers that somebody has retired: their locks are gone, and they can claim nothing."""
    dead: tuple[str, ...]
    """Workers of anybody's whose heartbeats have stopped."""
    silence: float | None
    """Seconds since the caller's last heartbeat by the database's clock; None if there was none."""
    cancelled: tuple[str, ...]
    """Those of the caller's workers that hold jobs which somebody has cancelled."""


def register_worker(sql: Statements, worker_id: str, host: Host, pid: int) -> Operation[None]:
    """Make a worker known, before its first claim; doing it again changes nothing."""
    parameters = (worker_id, host.id, host.name, pid, host.version)
    return Operation("register_worker", sql.get("register_worker"), parameters, _none)


def heartbeat(sql: Statements, host: Host, pulses: Sequence[Pulse], stale_after: float) -> Operation[Census]:
    """Say that workers are alive, and learn which are not: of `stale_after` seconds without a heartbeat one dies."""
    parameters = (
        host.id,
        host.name,
        host.version,
        [pulse.worker_id for pulse in pulses],
        [pulse.pid for pulse in pulses],
        [pulse.running for pulse in pulses],
        [pulse.succeeded for pulse in pulses],
        [pulse.failed for pulse in pulses],
        stale_after,
    )
    return Operation("heartbeat", sql.get("heartbeat"), parameters, _census)


def is_evicted(error: BaseException) -> bool:
    """Whether a claim was refused since its worker was retired."""
    return isinstance(error, psycopg.Error) and error.sqlstate == EVICTED


def _none(_rows: list[Row]) -> None:
    return None


def _census(rows: list[Row]) -> Census:
    evicted, dead, silence, cancelled = rows[0]
    return Census(tuple(evicted), tuple(dead), silence, tuple(cancelled))
