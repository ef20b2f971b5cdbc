"""What the plugin answers to hooks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgtasks import hookimpl
from pgtasks.plugins import CheckResult, ForbiddenFlags, Snooze
from pgtasks_pause.data import COLUMNS, pause_from_row
from pgtasks_pause.held import Reader
from pgtasks_pause.schema import migrations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import click

    from pgtasks import Job
    from pgtasks.plugins import Application, Check, ClaimPlan, Migration


class PausePlugin:
    """The plugin, for the App of one process."""

    def __init__(self) -> None:
        self._reader: Reader | None = None

    @hookimpl
    def configure(self, app: Application) -> None:
        """Note which App this is."""
        self._reader = Reader(app)

    @hookimpl
    def worker_process_init(self, app: Application) -> None:
        """Begin anew in a process that was forked."""
        self._reader = Reader(app)

    @hookimpl
    def register_migrations(self) -> Sequence[Migration]:
        """Return the steps of the table."""
        return migrations()

    @hookimpl
    def register_commands(self) -> Sequence[click.Command]:
        """Return `pause`, `resume` and `paused`."""
        from pgtasks_pause.commands import commands  # noqa: PLC0415 - workers need none

        return commands

    @hookimpl
    def register_checks(self, app: Application) -> Sequence[Check]:
        """Return the check that tells what is paused."""

        def held(connection: psycopg.Connection[Any]) -> list[CheckResult]:
            query = sql.SQL("select {} from {}.pgtasks_paused where holds order by id")
            found = connection.execute(query.format(COLUMNS, sql.Identifier(app.schema))).fetchall()
            return [_told(row) for row in found]

        return [held]

    @hookimpl
    async def forbidden_flags(self) -> ForbiddenFlags:
        """Answer the flags that are paused."""
        reader = self._known_reader
        held = await reader.held()
        return ForbiddenFlags(() if held is None else held.flags, seconds=reader.seconds)

    @hookimpl
    async def before_claim(self, plan: ClaimPlan) -> ClaimPlan | None:
        """Leave out what is paused."""
        held = await self._known_reader.held()
        if held is None:
            return replace(plan, limit=0)
        if held.nothing:
            return None
        return replace(
            plan,
            tasks=tuple(task for task in plan.tasks if task not in held.tasks),
            # They may have become known since forbidden_flags was asked.
            forbidden_flags=plan.forbidden_flags | held.flags,
            forbidden_queues=plan.forbidden_queues | held.queues,
        )

    @hookimpl
    async def admit_jobs(self, jobs: Sequence[Job]) -> Mapping[int, Snooze] | None:
        """Send back what was claimed before it was known to be paused."""
        held = await self._known_reader.held()
        if held is None or held.nothing:
            return None
        return {job.id: Snooze(0) for job in jobs if held.holds(job)}

    @property
    def _known_reader(self) -> Reader:
        assert self._reader is not None, "plugins are configured before they are asked"
        return self._reader


def _told(row: tuple[Any, ...]) -> CheckResult:
    pause = pause_from_row(row)
    why = f": {pause.reason}" if pause.reason else ""
    return CheckResult(
        "held",
        problem=f"{pause.what} {pause.name!r} is paused ({pause.when}) by {pause.by}{why}",
        fix=f"if its jobs are to run: `pgtasks resume --id {pause.id}`",
        severity="note",
    )
