"""What the doctor tells: findings, how serious they are, and from which figures on something is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NewType

from psycopg import sql as composing

from pgtasks.queue.installed import schema_option

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal["problem", "warning", "note", "unseen"]
"""How serious a finding is:

- `problem`: jobs are not run, cannot be added, or will not be for long;
- `warning`: it is slow or at risk, and somebody should act;
- `note`: to be known, and no more;
- `unseen`: nobody knows, since it was not possible to look.
"""

FindingName = Literal[
    # the schema
    "schema_missing",
    "schema_refused",
    "schema_pending",
    "schema_newer",
    "functions_replaced",
    "functions_of_graphile_worker",
    "plugin_steps_pending",
    "rows_hidden",
    # jobs and workers
    "no_worker",
    "untaken_jobs",
    "backlog",
    "stale_worker",
    "old_lock",
    "failed_jobs",
    # what holds up or swells tables
    "long_transaction",
    "prepared_transaction",
    "replication_slot",
    "standby",
    "table_lock",
    "dead_rows",
    "autovacuum_off",
    "wraparound",
    "table_size",
    "index_size",
    "index_missing",
    "index_invalid",
    # the server and the way to it
    "read_only",
    "connections",
    "unsafe_setting",
    "notification_queue",
    "pooler",
    "unheard_notifications",
    "clock",
    # the doctor itself
    "hidden_sessions",
    "unseen",
]
"""What a finding is called, here and in the documentation."""

CheckName = NewType("CheckName", str)
"""What a finding of a plugin's check is called: `plugin.name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that makes a queue slow or stuck, or may do so."""

    name: FindingName | CheckName
    level: Level
    what: str
    """What was found, with its figures and whom it is about."""
    why: str
    """Why that matters."""
    cure: str
    """What to do about it."""
    commands: tuple[str, ...] = ()
    """Exactly that, as SQL or as commands for a shell, where it can be said so."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The figures and names in `what`, for programs: times in seconds, sizes in bytes, ages in transactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which figures on something is found."""

    older_than: float = 300.0
    """Seconds that a transaction may be open, or a job that is due wait."""
    transactions: int = 100_000
    """Transactions that may have begun since what a replication slot or a standby still wants to see.

    It is not known for how long they have wanted it. On a server with 300 transactions a second this is five minutes.
    """
    lock: float = 10.0
    """Seconds that the transaction may be open which has a lock on a whole table."""
    stale_after: float = 30.0
    """Seconds without a heartbeat after which a worker counts as dead: the setting of that name."""
    dead_rows: int = 50_000
    """Dead rows that a table may have if vacuum has not come for `unvacuumed`, or as many as it has live ones."""
    unvacuumed: float = 600.0
    """Seconds since vacuum was last at a table."""
    size: int = 100 * 2**20
    """Bytes that a table or an index may have, however little it holds."""
    times_too_large: float = 10.0
    """How many times larger than what it seems to need it may be above that."""
    connections: float = 0.9
    """Part of the server's connections that may be in use."""
    notifications: float = 0.5
    """Part of the room for notifications that may be taken."""
    clock: float = 5.0
    """Seconds that the clocks of database and host may be apart."""
    shown: int = 5
    """How many findings of one kind are told, the worst."""


def span(seconds: float) -> str:
    """Return how long something lasted, in its largest unit.

    >>> span(7.4), span(90), span(7200), span(float("inf"))
    ('7 s', '2 min', '2 h', 'ages')
    """
    if seconds == float("inf"):
        return "ages"  # a run_at of '-infinity'
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds:.0f} s"


def size(number: int) -> str:
    """Return a number of bytes as people say it.

    >>> size(3_000), size(150_000_000), size(7_000_000_000)
    ('3 kB', '143 MB', '7 GB')
    """
    amount, unit = number / 1024, "kB"
    for larger in ("MB", "GB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}"


def many(number: int, noun: str, limit: int | None = None) -> str:
    """Return a number with its noun; one that was counted up to `limit` with a `+`.

    >>> many(1, "job"), many(12_000, "job"), many(1000, "job", limit=1000)
    ('1 job', '12,000 jobs', '1,000+ jobs')
    """
    more = "+" if limit is not None and number >= limit else ""
    return f"{number:,}{more} {noun}{'' if number == 1 else 's'}"


def more_of(total: int, shown: int, noun: str) -> str:
    """Return what is added to the last finding that is shown of a kind where there are others; often nothing.

    >>> more_of(7, 5, "transaction"), more_of(5, 5, "transaction")
    (' (and 2 transactions more)', '')
    """
    return f" (and {many(total - shown, noun)} more)" if total > shown else ""


def literal(text: str) -> str:
    """Return text as an SQL string."""
    return composing.Literal(text).as_string()


def identifier(name: str) -> str:
    """Return a name as an SQL identifier."""
    return composing.Identifier(name).as_string()


def shell(command: str, schema: str) -> str:
    """Return a command line of pgtasks that is about `schema`."""
    return f"pgtasks {command}{schema_option(schema)}"
