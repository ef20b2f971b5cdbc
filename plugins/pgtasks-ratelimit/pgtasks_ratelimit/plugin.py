"""The plugin's hooks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from pgtasks.plugins import Metric, Role, Snooze, hookimpl
from pgtasks_ratelimit.limiter import Limiter
from pgtasks_ratelimit.migrations import migrations
from pgtasks_ratelimit.rules import RateLimitSettings
from pgtasks_ratelimit.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import click

    from pgtasks import Job
    from pgtasks.plugins import Application, ClaimPlan, JobEnd, Migration, ProcessInfo

NAME: Final = "ratelimit"
log = logging.getLogger("pgtasks.ratelimit")
_CLEANUP_SECONDS: Final = 60.0
_QUIET_SECONDS: Final = 30.0
_PATIENCE: Final = 0.7
"""How long to wait for the database, as a part of how long a worker waits for a plugin."""


class RateLimit:
    """Keeps jobs to limits: see the README.

    Example:
        >>> from pgtasks import App
        >>> from pgtasks_ratelimit import RateLimit
        >>> app = App(plugins=[RateLimit()])
    """

    name = NAME
    vital_hooks = ("admit_jobs",)

    def __init__(self) -> None:
        self._app: Application | None = None
        self._settings = RateLimitSettings()
        self._holder: str | None = None
        self._limiter: Limiter | None = None
        self._cleaned_at = time.monotonic()
        self._failing = False
        self._quiet_until = 0.0

    @hookimpl
    def configure(self, app: Application) -> None:
        """Read the limits."""
        self._app = app
        self._settings = app.plugin_settings(NAME, RateLimitSettings)
        self._limiter = None

    @hookimpl
    def register_migrations(self) -> Sequence[Migration]:
        """Bring the tables."""
        return migrations()

    @hookimpl
    def register_commands(self) -> Sequence[click.Command]:
        """Bring `pgtasks ratelimit`."""
        from pgtasks_ratelimit.commands import ratelimit  # noqa: PLC0415 - not needed by workers

        return [ratelimit]

    # Worker processes

    @hookimpl
    def worker_process_init(self, process: ProcessInfo) -> None:
        """Learn who this process is."""
        self._holder = process.worker_id
        self._limiter = None

    @hookimpl(trylast=True)
    async def before_claim(self, plan: ClaimPlan) -> ClaimPlan | None:
        """Forbid limited flags, or claim as many of their jobs as there are tokens."""
        return await self._the_limiter().plan(plan)

    # Last, so that no token is taken for a job that another plugin refuses.
    @hookimpl(trylast=True)
    async def admit_jobs(self, jobs: Sequence[Job]) -> Mapping[int, Snooze]:
        """Let jobs start for which there are tokens."""
        return await self._the_limiter().admit(jobs)

    @hookimpl
    def job_finished(self, end: JobEnd) -> None:
        """Free the places that a job has occupied."""
        if self._limiter is not None:
            self._limiter.ended(end.job.id)

    @hookimpl
    async def worker_process_shutdown(self) -> None:
        """Give back what is left."""
        if self._limiter is not None:
            await self._limiter.close()

    @hookimpl
    def collect_metrics(self) -> Iterable[Metric]:
        """Tell how many jobs were let through and how many were not."""
        limiter = self._limiter
        if limiter is None:
            return []
        return [
            Metric("pgtasks_ratelimit_granted_total", limiter.granted, "counter", "Jobs that limits have let start."),
            Metric("pgtasks_ratelimit_refused_total", limiter.refused, "counter", "Jobs that limits have held back."),
            Metric("pgtasks_ratelimit_limited", len(limiter.limited), "gauge", "Flags that are held back now."),
        ]

    # The supervisor

    @hookimpl
    async def supervisor_tick(self) -> None:
        """Delete what is not needed any more, now and then."""
        app = self._app
        if app is None or time.monotonic() - self._cleaned_at < _CLEANUP_SECONDS:
            return
        self._cleaned_at = time.monotonic()
        await clean_up(app)

    def _the_limiter(self) -> Limiter:
        if self._limiter is None:
            app = self._app
            assert app is not None, "configured"
            assert app.role is Role.WORKER or self._holder is not None, "in a worker process"
            self._limiter = Limiter(
                Store(app, self._holder or "unknown"),
                self._settings.parsed(),
                refresh=self._settings.refresh,
                patience=_PATIENCE * app.settings.hook_timeout,
                look=app.look_for_jobs,
                report=self._report,
            )
        return self._limiter

    def _report(self, error: BaseException | None) -> None:
        """Log failures when they begin and end, and every half minute between."""
        if error is None:
            if self._failing:
                self._failing = False
                log.info("ratelimit_restored")
            return
        now = time.monotonic()
        if not self._failing or now >= self._quiet_until:
            self._failing, self._quiet_until = True, now + _QUIET_SECONDS
            text = str(error).strip() or "the database has not answered in time"
            log.error("ratelimit_failed: %s; jobs with limits wait", f"{type(error).__name__}: {text}")


async def clean_up(app: Application) -> Any:
    """Delete full buckets and what dead workers have left."""
    from psycopg import sql  # noqa: PLC0415 - hardly ever needed

    query = sql.SQL("select {schema}._pgtasks_ratelimit_cleanup()").format(schema=sql.Identifier(app.schema))
    async with app.async_connection() as connection:
        await connection.execute(query)
