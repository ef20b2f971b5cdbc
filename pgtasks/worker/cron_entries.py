"""All cron entries of an application that is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.cron.comparing import compare
from pgtasks.cron.crontab import load_crontab
from pgtasks.cron.declared import check_entry, join_entries
from pgtasks.cron.entry import CronEntry
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.app import App

log = get_logger("pgtasks.cron")


def find_entries(app: App) -> list[CronEntry]:
    """Return them: those of the crontab, of code, and of plugins. Warn of what is questionable.

    Raises:
        CronError: the crontab has mistakes, a task does not take a payload, or two entries have the same id.
    """
    tasks = {task.name: task for task in app.registry}
    groups: list[list[CronEntry]] = []
    if (path := app.settings.crontab) is not None:
        crontab = load_crontab(path)
        groups.append(crontab.entries())
        for problem in (*crontab.problems, *compare(crontab, tasks)):
            log.warning(
                "crontab_questionable", place=f"{path}:{problem.line}:{problem.column}", message=problem.message
            )
    groups.append(app.registry.cron_entries())
    groups += (entries for _, entries in app.hooks.collect("register_cron", _read, app=app))
    return join_entries(*groups)


def _read(answer: Iterable[Any]) -> list[CronEntry]:
    entries = list(answer)
    for entry in entries:
        if not isinstance(entry, CronEntry):
            raise TypeError(f"{entry!r} is no CronEntry")
    return [check_entry(entry) for entry in entries]
