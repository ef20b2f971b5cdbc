"""All cron entries of an application that is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.cron.crontab import load_crontab
from pgtasks.cron.entry import CronEntry
from pgtasks.errors import CronError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.app import App

log = get_logger("pgtasks.cron")


def find_entries(app: App) -> list[CronEntry]:
    """Return them, in order.

    Raises:
        CronError: the crontab has mistakes, or two entries have the same id.
    """
    entries = _of_file(app) + app.registry.cron_entries()
    for _, some in app.hooks.collect("register_cron", _read, app=app):
        entries += some
    _refuse_doubles(entries)
    return entries


def _of_file(app: App) -> list[CronEntry]:
    path = app.settings.crontab
    if path is None:
        return []
    crontab = load_crontab(path)
    entries = crontab.entries()
    for problem in crontab.unknown_tasks(app.registry.names):  # the job may be for another service
        log.warning("cron_task_unknown", crontab=crontab.name, line=problem.line, message=problem.message)
    return entries


def _read(answer: Iterable[Any]) -> list[CronEntry]:
    entries = list(answer)
    for entry in entries:
        if not isinstance(entry, CronEntry):
            raise TypeError(f"{entry!r} is no CronEntry")
    return entries


def _refuse_doubles(entries: Iterable[CronEntry]) -> None:
    known: dict[str, CronEntry] = {}
    for entry in entries:
        other = known.setdefault(entry.id, entry)
        if other is not entry:
            raise CronError(
                f"{entry.source}: there is another cron entry {entry.id!r}, {other.source}; give one of them another id"
            )
