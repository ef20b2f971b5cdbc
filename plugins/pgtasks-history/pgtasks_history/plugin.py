"""What the plugin answers to hooks."""

from __future__ import annotations

import logging
import random
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from pgtasks import hookimpl
from pgtasks.plugins import CheckResult, Migration
from pgtasks_history.api import CHUNK, prune_async
from pgtasks_history.settings import HistorySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from pgtasks.plugins import Application, Check

log = logging.getLogger("pgtasks.history")

PRUNE_SECONDS: Final = 60.0
"""About how often a host looks for what is old."""
_BUSY_SECONDS: Final = 2.0
"""For how long it deletes at a time."""


class HistoryPlugin:
    """The plugin, for the App of one process."""

    def __init__(self) -> None:
        self._app: Application | None = None
        self._settings = HistorySettings()
        self._next_pruning = 0.0

    @hookimpl
    def configure(self, app: Application) -> None:
        """Read the settings."""
        self._app = app
        self._settings = app.plugin_settings("history", HistorySettings)

    @hookimpl
    def register_migrations(self) -> Sequence[Migration]:
        """Return the steps of the tables. One that was released is not changed any more."""
        return [Migration(1, (files("pgtasks_history") / "step_1.sql").read_text(encoding="utf-8"))]

    @hookimpl
    def register_commands(self) -> Sequence[click.Command]:
        """Return `history`."""
        from pgtasks_history.commands import commands  # noqa: PLC0415 - workers need none

        return commands

    @hookimpl
    def register_checks(self, app: Application) -> Sequence[Check]:
        """Return the checks that jobs are recorded, and that what is old is deleted."""
        return [_Checks(app.schema, self._settings).recording, _Checks(app.schema, self._settings).retention]

    @hookimpl
    async def supervisor_ready(self, app: Application) -> None:
        """Tell the triggers whether payloads are to be recorded."""
        async with app.async_connection() as connection:
            await connection.execute(
                sql.SQL(
                    "update {}._pgtasks_history_settings set payload = %(payload)s where payload <> %(payload)s"
                ).format(sql.Identifier(app.schema)),
                {"payload": self._settings.payload},
            )

    @hookimpl
    async def supervisor_tick(self) -> None:
        """Delete what is old, now and then, and go on at the next tick if there is more."""
        keep, now = self._settings.keep, time.monotonic()
        if keep is None or now < self._next_pruning:
            return
        assert self._app is not None, "plugins are configured before they are asked"
        self._next_pruning = now + PRUNE_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - that hosts take turns
        total = 0
        while (deleted := await prune_async(self._app, keep)) == CHUNK:
            total += deleted
            if time.monotonic() - now > _BUSY_SECONDS:
                self._next_pruning = 0.0
                break
        total += deleted or 0
        if total:
            log.info("history_pruned: %d entries", total)


class _Checks:
    def __init__(self, schema: str, settings: HistorySettings) -> None:
        self._schema = schema
        self._settings = settings

    def recording(self, connection: psycopg.Connection[Any]) -> list[CheckResult]:
        """Whether both triggers are there and fire."""
        rows = connection.execute(
            "select tgname from pg_catalog.pg_trigger where tgrelid = pg_catalog.to_regclass(%s) "
            "and tgname in ('_pgtasks_history_deleted', '_pgtasks_history_failed') and tgenabled in ('O', 'A')",
            (sql.Identifier(self._schema, "_private_jobs").as_string(),),
        ).fetchall()
        if len(rows) == 2:
            return []
        name = sql.Identifier(self._schema).as_string()
        return [
            CheckResult(
                "recording",
                "jobs are not recorded: a trigger of the history is missing or disabled",
                f"alter table {name}._private_jobs enable trigger …; or install it anew: "
                f"select {name}._pgtasks_history_uninstall(), which forgets what was recorded, and pgtasks migrate",
            )
        ]

    def retention(self, connection: psycopg.Connection[Any]) -> list[CheckResult]:
        """Whether entries stay that should have been deleted a day ago."""
        if self._settings.keep is None:
            return []
        query = sql.SQL(
            "select exists (select from {}._pgtasks_history_jobs where finished_at < now() - %s - interval '1 day')"
        ).format(sql.Identifier(self._schema))
        row = connection.execute(query, (self._settings.keep,)).fetchone()
        if row is None or not row[0]:
            return []
        return [
            CheckResult(
                "retention",
                "entries are older than they are to be kept: no worker with the plugin deletes them",
                "start one, or run pgtasks history prune now and then",
                "note",
            )
        ]
