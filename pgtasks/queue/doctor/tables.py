"""Tables that are not cleaned up, and tables and indexes that are too large for what they hold.

Row counts are those of the server's statistics, and what so many rows need is an estimate from average widths: only
what is far above it is told. No table is read for this.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, Thresholds, many, size, span

if TYPE_CHECKING:
    from pgtasks.database import Row
    from pgtasks.sql import Statements

FREEZE_LATE = 1.5
"""How much older than `autovacuum_freeze_max_age` transactions are when autovacuum evidently does not get to them."""
FREEZE_SOON = 1_500_000_000
"""Transactions, of about two billion, after which the server takes no more writes."""


class _Table(NamedTuple):
    """A row of the statement."""

    name: str
    """With the schema, quoted where needed."""
    toast: bool
    """Whether it is the TOAST table of this one."""
    live: int
    dead: int
    unvacuumed: float | None
    """Seconds since vacuum was last there; None: never, or not since the statistics were last reset."""
    being_vacuumed: bool
    autovacuum: bool
    """Whether autovacuum may touch it."""
    age: int
    """Of its oldest transaction."""
    bytes: int
    needed: int | None
    """Bytes that its rows need; None for a TOAST table."""

    @property
    def told(self) -> str:
        """What it is called in a sentence."""
        return f"the TOAST table of {self.name}" if self.toast else self.name


def tables(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look at how the queue's tables are kept."""
    return Operation("doctor_tables", sql.get("doctor_tables"), (), partial(_findings, thresholds))


def _findings(thresholds: Thresholds, rows: list[Row]) -> list[Finding]:
    found: list[Finding] = []
    for table in (_Table(*row[:-1]) for row in rows):
        freeze_max_age: int = rows[0][-1]
        if not table.autovacuum:
            found.append(_without_autovacuum(table))
        if _is_left(table, thresholds):
            found.append(_dead_rows(table))
        if table.age > freeze_late(freeze_max_age):
            found.append(_wraparound(table, freeze_max_age))
        if is_too_large(table.bytes, table.needed, thresholds):
            found.append(_too_large(table))
    return found


def is_too_large(taken: int, needed: int | None, thresholds: Thresholds) -> bool:
    """Whether something takes far more bytes than what it seems to need."""
    return needed is not None and taken >= thresholds.size and taken > thresholds.times_too_large * needed


def freeze_late(freeze_max_age: int) -> float:
    """Return from which age on it is told that autovacuum does not freeze what it should."""
    return min(FREEZE_LATE * freeze_max_age, FREEZE_SOON)


def _is_left(table: _Table, thresholds: Thresholds) -> bool:
    """Whether vacuum does not come.

    Dead rows alone are nothing: a busy queue makes thousands between one vacuum and the next.
    """
    late = table.unvacuumed is None or table.unvacuumed > thresholds.unvacuumed
    return late and not table.being_vacuumed and table.dead >= max(thresholds.dead_rows, table.live)


def _without_autovacuum(table: _Table) -> Finding:
    return Finding(
        name="autovacuum_off",
        level="warning",
        what=f"autovacuum is switched off for {table.told}",
        why="its dead rows are removed only if somebody runs vacuum, and until then everything gets slower",
        cure="switch it on again",
        commands=(f"alter table {table.name} reset ({'toast.' if table.toast else ''}autovacuum_enabled);",),
        facts={"table": table.name, "toast": table.toast},
    )


def _dead_rows(table: _Table) -> Finding:
    last = f"vacuum was last there {span(table.unvacuumed)} ago" if table.unvacuumed else "vacuum has never been there"
    return Finding(
        name="dead_rows",
        level="warning",
        what=f"{table.told} has {many(table.dead, 'dead row')} and {many(table.live, 'live one')}, and {last} "
        "(by the statistics)",
        why="claims step over dead rows, and whatever else looks at the table does too",
        cure="run vacuum; and see why autovacuum does not: it is off, has too few workers, or is slowed down "
        "(autovacuum_vacuum_cost_delay)",
        commands=(f"vacuum (analyze) {table.name};",),
        facts={
            "table": table.name,
            "toast": table.toast,
            "dead_rows": table.dead,
            "live_rows": table.live,
            "seconds": table.unvacuumed,
        },
    )


def _wraparound(table: _Table, freeze_max_age: int) -> Finding:
    return Finding(
        name="wraparound",
        level="problem" if table.age > FREEZE_SOON else "warning",
        what=f"{table.told} has rows of transactions that are {table.age:,} old; autovacuum should have frozen them at "
        f"{freeze_max_age:,}",
        why="at about 2,000,000,000 the server takes no more writes, to protect its data",
        cure="mend first what holds back the cleanup, if anything is told of it, then freeze",
        commands=(f"vacuum (freeze) {table.name};",),
        facts={"table": table.name, "toast": table.toast, "transactions": table.age, "freeze_max_age": freeze_max_age},
    )


def _too_large(table: _Table) -> Finding:
    return Finding(
        name="table_size",
        level="note",
        what=f"{table.told} takes {size(table.bytes)}, and its {many(table.live, 'row')} need about "
        f"{size(table.needed or 0)} (an estimate)",
        why="new jobs fill the room again, so this costs little but disk",
        cure="nothing; or, at a time when nobody needs the queue, rewrite it (everybody waits until that is done)",
        commands=(f"vacuum (full, analyze) {table.name};",),
        facts={"table": table.name, "bytes": table.bytes, "needed_bytes": table.needed, "live_rows": table.live},
    )
