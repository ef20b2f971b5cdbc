"""What is paused now, as a process knows it: read from the database at most once a second, and kept on errors."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from pgtasks import PgtasksError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks import Job
    from pgtasks.plugins import Application

log = logging.getLogger("pgtasks.plugins.pause")

FRESH_SECONDS: Final = 1.0
"""How long an answer is used before the next one is asked for."""
_PATIENCE: Final = 0.5
"""For how much of the time that a hook may take an answer is waited for."""
_READ_SECONDS: Final = 5.0
"""How long the database may take for an answer."""


@dataclass(frozen=True, slots=True)
class Held:
    """The names of what is paused."""

    tasks: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Held:
        """Return what pairs of a kind and a name tell."""
        names: dict[str, set[str]] = {"task": set(), "queue": set(), "flag": set()}
        for what, name in pairs:
            names[what].add(name)
        return cls(*(frozenset(names[what]) for what in ("task", "queue", "flag")))

    @property
    def nothing(self) -> bool:
        """Whether nothing is paused."""
        return not (self.tasks or self.queues or self.flags)

    def holds(self, job: Job) -> bool:
        """Whether a job is not to start."""
        return job.task in self.tasks or job.queue in self.queues or not self.flags.isdisjoint(job.flags)

    def __str__(self) -> str:
        named = [
            f"{what} {name!r}"
            for what, names in (("task", self.tasks), ("queue", self.queues), ("flag", self.flags))
            for name in sorted(names)
        ]
        return ", ".join(named) or "nothing"


class Reader:
    """Reads what is paused, for the hooks of one process; they may ask as often as they like.

    The read is a task of its own, which no hook waits for longer than it may: meanwhile the last answer holds, and
    after an error, too. Before the first answer nothing is known, and nothing is to start.

    Args:
        app: whose database to read from.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._query = sql.SQL("select what, name from {}.pgtasks_paused where holds").format(sql.Identifier(app.schema))
        self._patience = _PATIENCE * app.settings.hook_timeout
        self._held: Held | None = None
        self._fresh_until = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._began = 0.0
        self._told: str | None = None

    @property
    def seconds(self) -> float:
        """For how many seconds the last answer is still used; more than 0."""
        return max(0.01, self._fresh_until - time.monotonic())

    async def held(self) -> Held | None:
        """Return what is paused now; None if that is not known yet."""
        now = time.monotonic()
        if now < self._fresh_until:
            return self._held
        if self._reading is None:
            self._began = now
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="pgtasks-pause")
        patience = self._began + self._patience - now
        if patience > 0:
            await asyncio.wait([self._reading], timeout=patience)
        return self._held

    async def _read(self) -> None:
        began = self._began
        try:
            async with asyncio.timeout(_READ_SECONDS), self._app.async_connection() as connection:
                cursor = await connection.execute(self._query)
                held = Held.of(await cursor.fetchall())
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            self._lack_table()
        except (psycopg.Error, PgtasksError, OSError, TimeoutError) as error:
            self._fail(_reason(error))
            began = time.monotonic()
        else:
            self._answer(held)
        finally:
            # What was true when it was asked for; where the database is slow, it is not asked all the time.
            self._fresh_until = max(began, time.monotonic() - FRESH_SECONDS / 2) + FRESH_SECONDS
            self._reading = None

    def _answer(self, held: Held) -> None:
        if self._told is not None:
            self._told = None
            log.info("pauses can be read again")
        if held != self._held and not (self._held is None and held.nothing):
            log.info("paused: %s", held)
        self._held = held

    def _lack_table(self) -> None:
        if self._held is None:
            self._held = Held()  # nobody can have paused anything
        self._tell(
            "no table",
            f"plugin 'pause' has no table in schema {self._app.schema!r}, and so {self._held} stays paused: "
            "run `pgtasks migrate` with the plugin loaded",
        )

    def _fail(self, reason: str) -> None:
        if self._held is None:
            self._tell("no answer", f"what is paused cannot be read, and nothing is claimed before it can: {reason}")
        else:
            self._tell("away", f"what is paused cannot be read, and so stays as it was ({self._held}): {reason}")

    def _tell(self, problem: str, message: str) -> None:
        """Log what is wrong, once until something else is."""
        if self._told != problem:
            log.warning(message)
        self._told = problem


def _reason(error: Any) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"the database did not answer within {_READ_SECONDS:g} s"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
