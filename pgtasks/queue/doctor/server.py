"""What the server is set to, and what it has left."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, Thresholds
from pgtasks.queue.doctor.tables import FREEZE_SOON, freeze_late

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.database import Row
    from pgtasks.sql import Statements

_RELOAD = "select pg_reload_conf();"


class _Server(NamedTuple):
    """The row of the statement."""

    in_recovery: bool
    read_only: bool
    """Whether transactions of the role are, unless they say otherwise."""
    autovacuum: bool
    track_counts: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    max_connections: int
    reserved: int
    """Connections that are kept for superusers and the like."""
    connections: int
    notifications: float
    """Part of the room for notifications that is taken."""
    freeze_max_age: int
    oldest_database: str
    age: int
    """Of the oldest transaction there."""


def server(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look at the server."""
    return Operation("doctor_server", sql.get("doctor_server"), (), partial(_findings, thresholds))


def _findings(thresholds: Thresholds, rows: list[Row]) -> list[Finding]:
    looked = _Server(*rows[0])
    found = [*_settings(looked)]
    if looked.connections >= thresholds.connections * (looked.max_connections - looked.reserved):
        found.append(_connections(looked))
    if looked.notifications >= thresholds.notifications:
        found.append(_notifications(looked))
    if looked.age > freeze_late(looked.freeze_max_age):
        found.append(_wraparound(looked))
    return found


def _settings(looked: _Server) -> Iterator[Finding]:
    if looked.in_recovery or looked.read_only:
        yield Finding(
            name="read_only",
            level="problem",
            what="the server is a standby"
            if looked.in_recovery
            else "default_transaction_read_only is on for this role",
            why="no job can be added, claimed or finished here",
            cure="connect to the primary: name all hosts in the database URL, or correct it"
            if looked.in_recovery
            else "find out why (a full disk?), and switch it off, for the role, the database or the server",
            commands=() if looked.in_recovery else ("alter system reset default_transaction_read_only;", _RELOAD),
            facts={"in_recovery": looked.in_recovery},
        )
    off = [name for name in ("autovacuum", "track_counts") if not getattr(looked, name)]
    if off:
        yield Finding(
            name="autovacuum_off",
            level="problem",
            what=f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off for the whole server",
            why="dead rows stay, so that each job makes claims slower, and in the end the server takes no more writes",
            cure="switch it on",
            commands=(*(f"alter system set {name} = on;" for name in off), _RELOAD),
            facts={"settings": off},
        )
    for name in ("fsync", "full_page_writes"):
        if not getattr(looked, name):
            yield Finding(
                name="unsafe_setting",
                level="warning",
                what=f"{name} is off",
                why="after a crash of the machine the database, and the queue with it, may be beyond repair",
                cure="switch it on, unless all that is here may be lost",
                commands=(f"alter system set {name} = on;", _RELOAD),
                facts={"setting": name, "value": "off"},
            )
    if looked.synchronous_commit == "off":
        yield Finding(
            name="unsafe_setting",
            level="note",
            what="synchronous_commit is off",
            why="a crash of the server takes back the last moments: jobs that were added are gone, others run again",
            cure="switch it on, if that is too much; it may also have been set for the role or the database",
            commands=("alter system set synchronous_commit = on;", _RELOAD),
            facts={"setting": "synchronous_commit", "value": "off"},
        )


def _connections(looked: _Server) -> Finding:
    usable = looked.max_connections - looked.reserved
    return Finding(
        name="connections",
        level="warning",
        what=f"{looked.connections} of the server's {usable} connections are in use",
        why="when none is left, workers cannot reconnect, and programs cannot add jobs",
        cure="see who has them; then fewer processes, smaller pools or a pooler, or a higher max_connections (takes a "
        "restart)",
        commands=(
            "select usename, application_name, state, count(*) from pg_stat_activity group by 1, 2, 3 order by 4 desc;",
        ),
        facts={
            "connections": looked.connections,
            "max_connections": looked.max_connections,
            "reserved_connections": looked.reserved,
        },
    )


def _notifications(looked: _Server) -> Finding:
    return Finding(
        name="notification_queue",
        level="warning",
        what=f"{looked.notifications:.0%} of the room for notifications is taken",
        why="when it is full, no job can be added; some session listens and stays in a transaction, so that it is deaf",
        cure="end that session: the server's log names it, and it has a long transaction",
        commands=(
            "select pid, application_name, state, xact_start from pg_stat_activity order by xact_start limit 5;",
        ),
        facts={"usage": looked.notifications},
    )


def _wraparound(looked: _Server) -> Finding:
    return Finding(
        name="wraparound",
        level="problem" if looked.age > FREEZE_SOON else "warning",
        what=f"the oldest transaction in database {looked.oldest_database!r} is {looked.age:,} transactions old; "
        f"autovacuum should have frozen what is of it at {looked.freeze_max_age:,}",
        why="at about 2,000,000,000 the server takes no more writes, in any database, to protect its data",
        cure=f"mend first what holds back the cleanup, if anything is told of it, then run this in database "
        f"{looked.oldest_database!r}",
        commands=("vacuum (freeze);",),
        facts={
            "database": looked.oldest_database,
            "transactions": looked.age,
            "freeze_max_age": looked.freeze_max_age,
        },
    )
