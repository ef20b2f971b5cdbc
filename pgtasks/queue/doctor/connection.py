"""The way to the database: a pooler in between, notifications that do not arrive, a clock that is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from pgtasks.database import Operation, run
from pgtasks.database.connecting import complete_conninfo, is_pooled_blocking
from pgtasks.queue.doctor.finding import Finding, Thresholds
from pgtasks.queue.doctor.limits import limited
from pgtasks.queue.listen import hears, notify

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from pgtasks.database import Row
    from pgtasks.sql import Statements

LOOKS: Final = 3
"""How often the clock is read; the quickest answer counts."""
_APPLICATION: Final = "pgtasks doctor"


def clock(
    connection: psycopg.Connection[Any], sql: Statements, thresholds: Thresholds, now: Callable[[], dt.datetime]
) -> list[Finding]:
    """Compare the database's clock with this host's.

    Between asking and being answered the database has read its clock at some moment, so its lead is known up to the
    time that the round trip took. Only what is certain is told.
    """
    look = Operation("doctor_clock", sql.get("doctor_clock"), (), _value)
    least, most = float("-inf"), float("inf")
    with limited(connection, look.name):
        for _ in range(LOOKS):
            asked = now()
            read = run(connection, look)
            answered = now()
            if (answered - asked).total_seconds() < most - least:
                least, most = (read - answered).total_seconds(), (read - asked).total_seconds()
    lead = max(least, 0.0) + min(most, 0.0)
    if abs(lead) < thresholds.clock:
        return []
    return [
        Finding(
            name="clock",
            level="warning",
            what=f"the database's clock is {abs(lead):,.0f} s {'ahead of' if lead > 0 else 'behind'} this host's",
            why="it decides when a job is due: a run_at that a program computes here comes too early or too late",
            cure="let both hosts take their time from the network (NTP); in programs give a delay instead of a run_at",
            facts={"lead": lead},
        )
    ]


def notifications(
    connection: psycopg.Connection[Any], sql: Statements, conninfo: str, *, listen: bool, listen_at: str | None
) -> list[Finding]:
    """Find out whether a pooler is in the way, and whether workers can hear notifications.

    Args:
        connection: A connection in autocommit mode by the address that programs and workers use.
        sql: The statements.
        conninfo: That address.
        listen: Whether workers are to listen.
        listen_at: Where they are to listen, if not there.
    """
    pooled = is_pooled_blocking(connection)
    if not (pooled or (listen and listen_at is not None)):
        return []
    if not listen:
        return [_pooler("workers are set not to listen (listen = false), and poll")]
    if listen_at is None and _shares_a_session(connection, sql, conninfo):
        return [_unheard_behind_pooler()]

    def send(channel: str, payload: str) -> None:
        with limited(connection, "notify"):
            run(connection, notify(sql, channel, payload))

    with _connect(conninfo if listen_at is None else listen_at) as listening:
        heard = hears(listening, send)
    if listen_at is None:
        return [
            _pooler("notifications are heard through it: it is in session mode") if heard else _unheard_behind_pooler()
        ]
    if not heard:
        return [_unheard_elsewhere()]
    return [_pooler("workers listen at listen_url, where notifications are heard")] if pooled else []


def _shares_a_session(connection: psycopg.Connection[Any], sql: Statements, conninfo: str) -> bool:
    """Whether two connections of ours have the same session of the server, as behind a pooler in transaction mode.

    If they have not, that says nothing. If they have, nothing need be sent to know that it would not be heard.
    """
    look = Operation("doctor_session", sql.get("doctor_session"), (), _value)

    def session(of: psycopg.Connection[Any]) -> int:
        with limited(of, look.name):
            number: int = run(of, look)
            return number

    with _connect(conninfo) as other:
        return any(session(connection) == session(other) for _ in range(LOOKS))


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    return psycopg.connect(complete_conninfo(conninfo, _APPLICATION), autocommit=True, prepare_threshold=None)


def _pooler(how: str) -> Finding:
    return Finding(
        name="pooler",
        level="note",
        what=f"the connection goes through a pooler; {how}",
        why="nothing is prepared on the server, which costs a little",
        cure="nothing",
    )


def _unheard_behind_pooler() -> Finding:
    return Finding(
        name="unheard_notifications",
        level="warning",
        what="the connection goes through a pooler that gives each transaction another session, as PgBouncer does with "
        "pool_mode = transaction: nobody can listen there",
        why="workers find jobs by polling only, so a job that is added to an idle host waits for up to poll_interval",
        cure="set listen_url to an address without the pooler or in session mode, or listen to false if polling does",
    )


def _unheard_elsewhere() -> Finding:
    return Finding(
        name="unheard_notifications",
        level="warning",
        what="what is sent at database_url is not heard at listen_url",
        why="workers find jobs by polling only, so a job that is added to an idle host waits for up to poll_interval",
        cure="correct listen_url: it has to lead to the same database, without a pooler or by one in session mode",
    )


def _value(rows: list[Row]) -> Any:
    return rows[0][0]
