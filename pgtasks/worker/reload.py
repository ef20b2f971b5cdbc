"""Importing the application anew, while the worker goes on.

A second zygote imports it. If that works, the processes are replaced, one after the other, by some of the new zygote's;
the old one ends with the last process that came from it. If it does not, it is logged, and nothing has changed.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.database.errors import explain
from pgtasks.errors import AppLoadError, PgtasksError, SettingsError
from pgtasks.logs import get_logger
from pgtasks.queue.claim import register_tasks
from pgtasks.settings import load_settings
from pgtasks.worker.generation import Generation
from pgtasks.worker.zygotes import ZygoteClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pgtasks.settings import Settings
    from pgtasks.worker.fleet import Fleet
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.notify_systemd import Systemd
    from pgtasks.worker.starting import StopWhileStarting
    from pgtasks.worker.zygotes import Loaded

log = get_logger("pgtasks.worker")

_FIXED = (
    "database_url",
    "schema_name",
    "listen",
    "listen_url",
    "stale_after",
    "max_interruptions",
    "health_port",
    "health_address",
)
"""Settings that the supervisor itself goes by from its start on."""


@dataclass(frozen=True, slots=True)
class Application:
    """How an application is imported."""

    explicit: Mapping[str, Any]
    """Settings from the command line."""
    directory: Path
    """Where modules are looked for first."""

    def settings(self) -> Settings:
        """Read the settings that are known before the import.

        Raises:
            SettingsError: one is unknown or cannot be used.
        """
        return load_settings(self.explicit, source="command line")

    def load(self, zygote: ZygoteClient, settings: Settings, stop: StopWhileStarting) -> Loaded:
        """Have it imported by `zygote`, when nothing else runs yet."""
        return zygote.load(settings, self.explicit, self.directory, stop)

    async def load_again(self) -> tuple[ZygoteClient, Loaded]:
        """Have it imported by a zygote of its own, beside whatever else runs.

        Raises:
            PgtasksError: it cannot be, or it sets something that cannot be used.
        """
        try:
            settings = self.settings()
            zygote = ZygoteClient.fresh()
        except OSError as error:
            raise AppLoadError(
                f"the application cannot be imported anew in {self.directory} by {sys.executable}: {error}"
            ) from error
        try:
            return zygote, await zygote.load_async(settings, self.explicit, self.directory)
        except BaseException:
            zygote.discard()
            raise


class Reloader:
    """Reloads, one at a time; what is asked for meanwhile makes one more.

    Args:
        application: what to import.
        loaded: what the first import found.
        conninfo: the database, which a reload cannot change.
        fleet: the processes.
        link: the database.
        systemd: is told when a reload begins and ends.
        on_loaded: called with what an import has found when all work is done by its processes.
    """

    def __init__(
        self,
        application: Application,
        loaded: Loaded,
        conninfo: str,
        *,
        fleet: Fleet,
        link: DatabaseLink,
        systemd: Systemd,
        on_loaded: Callable[[Loaded], None],
    ) -> None:
        self._application = application
        self._loaded = loaded
        self._conninfo = conninfo
        self._fleet = fleet
        self._link = link
        self._systemd = systemd
        self._on_loaded = on_loaded
        self._wanted = asyncio.Event()
        self._reason = ""

    def want(self, reason: str) -> None:
        """Reload as soon as no other reload is under way."""
        self._reason = reason
        self._wanted.set()

    async def run(self) -> None:
        """Reload when it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            log.info("application_reloading", reason=self._reason)
            self._systemd.reloading()
            error = await self._reload()
            if error is None:
                log.info("application_reloaded", tasks=len(self._loaded.tasks), processes=self._fleet.wanted)
                self._systemd.ready(f"{self._fleet.wanted} processes take jobs")
            else:
                known = isinstance(error, PgtasksError)
                log.error(
                    "reload_failed",
                    error=str(error) if known else repr(error),
                    message="the worker goes on as it was",
                    exc_info=None if known else error,
                )
                self._systemd.ready(f"the last reload failed; {self._fleet.wanted} processes take jobs")

    async def _reload(self) -> Exception | None:
        """Reload once; returns why that could not be done, or None if it was."""
        try:
            loaded, generation = await self._load()
        except Exception as error:  # noqa: BLE001 - the worker does as well without
            return error
        if not await self._fleet.roll(generation):
            return PgtasksError(
                "the new processes, or the one that forks them, ended before they were ready; see the log above"
            )
        processes = self._processes_of(loaded)
        self._loaded = loaded
        self._on_loaded(loaded)
        self._fleet.resize(processes)
        return None

    def _processes_of(self, loaded: Loaded) -> int:
        """Return how many there are to be: the setting, if that has changed, or as many as there are."""
        before, after = self._loaded.settings.processes, loaded.settings.processes
        return self._fleet.wanted if after == before else after

    async def _load(self) -> tuple[Loaded, Generation]:
        zygote, loaded = await self._application.load_again()
        try:
            self._refuse_what_takes_a_restart(loaded)
            await self._link.insist(register_tasks(self._link.statements, loaded.tasks))
            processes = max(self._processes_of(loaded), self._fleet.wanted)
            return loaded, Generation.of(loaded, zygote, self._conninfo, processes)
        except psycopg.Error as error:
            zygote.discard()
            raise explain(error, self._conninfo) from error
        except BaseException:
            zygote.discard()
            raise

    def _refuse_what_takes_a_restart(self, loaded: Loaded) -> None:
        if loaded.version != self._loaded.version:
            raise PgtasksError(
                f"pgtasks itself has changed from {self._loaded.version} to {loaded.version}, which takes a restart"
            )
        old, new = self._loaded.settings, loaded.settings
        changed = [name for name in _FIXED if getattr(old, name) != getattr(new, name)]
        if changed:
            raise SettingsError(f"the setting {changed[0].removesuffix('_name')!r} has changed, which takes a restart")
