"""What keeps vacuum from removing dead rows: open and prepared transactions, replication slots, standbys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, Thresholds, identifier, literal, many, more_of, size, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.database import Row
    from pgtasks.sql import Statements

_WHY = (
    "no dead row that it might still see can be removed from the queue's tables: claims step over more and more of them"
)
_WHY_CATALOGS = (
    "rows of the queue it does not keep, but catalogs that are never cleaned slow down every statement in the end, and "
    "WAL that is kept fills the disk"
)


class _Holder(NamedTuple):
    """A row of the statement."""

    kind: str
    name: str
    database: str | None
    role: str | None
    application: str | None
    """The slot's output plugin, and the standby's address."""
    state: str | None
    command: str | None
    """The first words of the session's statement; the slot's type."""
    seconds: float | None
    transactions: int | None
    catalog_transactions: int | None
    wal_bytes: int | None
    total: int


def held_cleanup(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look for what has kept vacuum from its work for too long."""
    parameters = (thresholds.older_than, thresholds.transactions, thresholds.shown)
    return Operation("doctor_held_cleanup", sql.get("doctor_held_cleanup"), parameters, partial(_findings, thresholds))


def _findings(thresholds: Thresholds, rows: list[Row]) -> list[Finding]:
    found: list[Finding] = []
    holders = [_Holder(*row) for row in rows]
    for kind, tell in _TOLD.items():
        of_kind = [holder for holder in holders if holder.kind == kind]
        for holder in of_kind:
            rest = more_of(holder.total, thresholds.shown, _NOUNS[kind]) if holder is of_kind[-1] else ""
            found.append(tell(holder, rest))
    found += [_hidden(holder) for holder in holders if holder.kind == "hidden"]
    return found


def _transaction(holder: _Holder, rest: str) -> Finding:
    idle = (holder.state or "").startswith("idle")
    doing = f", {'idle after' if idle else 'at'} {holder.command!r}" if holder.command else ""
    end = "pg_terminate_backend" if idle else "pg_cancel_backend"
    return Finding(
        name="long_transaction",
        level="warning",
        what=f"a transaction of session {holder.name} ({_whose(holder)}) has been open for {span(holder.seconds or 0)} "
        f"and {_age(holder.transactions)}{doing}{rest}",
        why=_WHY,
        cure="let the program commit sooner, or end it, if nobody needs what it does",
        commands=(f"select {end}({holder.name});",),
        facts={"pid": int(holder.name), **_facts(holder), "command": holder.command},
    )


def _prepared(holder: _Holder, rest: str) -> Finding:
    gid = literal(holder.name)
    return Finding(
        name="prepared_transaction",
        level="warning",
        what=f"the prepared transaction {holder.name!r} ({_whose(holder)}) has been open for "
        f"{span(holder.seconds or 0)} and {_age(holder.transactions)}{rest}",
        why=f"{_WHY}; it also keeps its locks, even if the server is restarted",
        cure=f"find out how it was meant to end, and do one of these in database {holder.database!r}, as its role",
        commands=(f"commit prepared {gid};", f"rollback prepared {gid};"),
        facts={"gid": holder.name, **_facts(holder)},
    )


def _slot(holder: _Holder, rest: str) -> Finding:
    rows = holder.transactions is not None
    since = f", unused for {span(holder.seconds)}," if holder.seconds is not None else ""
    keeps = f", and keeps {size(holder.wal_bytes)} of WAL" if holder.wal_bytes is not None else ""
    held = "dead rows" if rows else "dead rows of the system catalogs"
    active = holder.state == "active"
    return Finding(
        name="replication_slot",
        level="warning",
        what=f"the {holder.state} {holder.command} replication slot {holder.name!r}{since} holds back the "
        f"cleanup of {held} for {_age(max(holder.transactions or 0, holder.catalog_transactions or 0))}{keeps}{rest}",
        why=_WHY if rows else _WHY_CATALOGS,
        cure="see why its reader does not get on, or what long query runs there"
        if active
        else "start what reads from it, or drop it, if nobody does any more",
        commands=() if active else (f"select pg_drop_replication_slot({literal(holder.name)});",),
        facts={
            "slot": holder.name,
            "type": holder.command,
            "active": active,
            "seconds": holder.seconds,
            "transactions": holder.transactions,
            "catalog_transactions": holder.catalog_transactions,
            "wal_bytes": holder.wal_bytes,
        },
    )


def _standby(holder: _Holder, rest: str) -> Finding:
    where = f" at {holder.application}" if holder.application else ""
    return Finding(
        name="standby",
        level="warning",
        what=f"the standby {holder.name!r}{where} holds back the cleanup for {_age(holder.transactions)}, by its "
        f"hot_standby_feedback{rest}",
        why=_WHY,
        cure="end the long query there, or switch the feedback off there (queries there may be cancelled then)",
        commands=("alter system set hot_standby_feedback = off;", "select pg_reload_conf();"),
        facts={"standby": holder.name, "address": holder.application, "transactions": holder.transactions},
    )


def _hidden(holder: _Holder) -> Finding:
    return Finding(
        name="hidden_sessions",
        level="note",
        what=f"what {many(holder.total, 'session')} of other roles do could not be seen: role {holder.role!r} may not",
        why="one of them may hold back the cleanup, or keep others waiting",
        cure="let the role see it, which a superuser can do, or look as another one",
        commands=(f"grant pg_read_all_stats to {identifier(holder.role or '')};",),
        facts={"role": holder.role, "sessions": holder.total},
    )


def _whose(holder: _Holder) -> str:
    return ", ".join(
        [
            *([repr(holder.application)] if holder.application else []),
            *([f"role {holder.role!r}"] if holder.role else []),
            *([f"database {holder.database!r}"] if holder.database else []),
        ]
    )


def _age(transactions: int | None) -> str:
    return many(transactions or 0, "transaction")


def _facts(holder: _Holder) -> dict[str, Any]:
    return {
        "application": holder.application,
        "role": holder.role,
        "database": holder.database,
        "state": holder.state,
        "seconds": holder.seconds,
        "transactions": holder.transactions,
    }


_TOLD: dict[str, Callable[[_Holder, str], Finding]] = {
    "transaction": _transaction,
    "prepared": _prepared,
    "slot": _slot,
    "standby": _standby,
}
_NOUNS = {
    "transaction": "transaction",
    "prepared": "prepared transaction",
    "slot": "slot",
    "standby": "standby",
}
