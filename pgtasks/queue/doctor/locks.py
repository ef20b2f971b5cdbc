"""Locks on whole tables, which keep everybody from adding, claiming and finishing jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, Thresholds, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.database import Row
    from pgtasks.sql import Statements


class _Lock(NamedTuple):
    """A row of the statement."""

    relation: str
    mode: str
    granted: bool
    pid: int | None
    """None for that of a prepared transaction."""
    role: str | None
    application: str | None
    state: str | None
    command: str | None
    seconds: float | None
    waiting: int
    blockers: Sequence[int] | None


def table_locks(sql: Statements, thresholds: Thresholds, *, blocked: bool = False) -> Operation[list[Finding]]:
    """Look for locks that keep others from a whole table.

    Args:
        sql: The statements.
        thresholds: How long is too long.
        blocked: Whether the doctor itself was kept waiting: then a lock is told however short its transaction is.
    """
    parameters = (0.0 if blocked else thresholds.lock, thresholds.shown)
    return Operation("doctor_table_locks", sql.get("doctor_table_locks"), parameters, _findings)


def _findings(rows: list[Row]) -> list[Finding]:
    return [_finding(_Lock(*row)) for row in rows]


def _finding(lock: _Lock) -> Finding:
    commands: tuple[str, ...] = ()
    if lock.pid is None:
        whose, cure = "a prepared transaction", "find out how it was meant to end, and end it so"
    else:
        whose = f"session {lock.pid}"
        if named := [
            *([repr(lock.application)] if lock.application else []),
            *([f"role {lock.role!r}"] if lock.role else []),
            *([lock.state] if lock.state else []),
            *([f"at {lock.command!r}"] if lock.command and lock.state == "active" else []),
        ]:
            whose += f" ({', '.join(named)})"
        commands = (f"select pg_terminate_backend({lock.pid});",)
        cure = "wait until it has done what it does, or end it"
    since = f", in a transaction of {span(lock.seconds)}" if lock.seconds is not None else ""
    if lock.granted:
        does = f"holds {lock.mode} on {lock.relation!r}{since}; {_waiters(lock.waiting)} for it"
    else:
        behind = ", ".join(map(str, lock.blockers or ())) or "nobody any more"
        does = f"waits for {lock.mode} on {lock.relation!r}{since}, behind {behind}; everybody else waits behind it"
    return Finding(
        name="table_lock",
        level="problem",
        what=f"{whose} {does}",
        why="no job can be added, claimed or finished beside this lock",
        cure=cure,
        commands=commands,
        facts={
            "relation": lock.relation,
            "mode": lock.mode,
            "granted": lock.granted,
            "pid": lock.pid,
            "role": lock.role,
            "application": lock.application,
            "state": lock.state,
            "seconds": lock.seconds,
            "waiting": lock.waiting,
            "blockers": list(lock.blockers or ()),
        },
    )


def _waiters(number: int) -> str:
    return {0: "nobody waits", 1: "one other waits"}.get(number, f"{number} others wait")
