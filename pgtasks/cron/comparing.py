"""What is questionable in a crontab where an application's tasks are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.cron.crontab import CrontabProblem
from pgtasks.cron.declared import read_payload
from pgtasks.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgtasks.cron.crontab import Crontab
    from pgtasks.cron.declared import Target


def compare(crontab: Crontab, tasks: Mapping[str, Target]) -> Iterator[CrontabProblem]:
    """Give warnings: of tasks that are not registered, and of payloads that a task does not take."""
    yield from crontab.unknown_tasks(tasks)
    for line in crontab.lines:
        try:
            read_payload(line.entry.payload, tasks.get(line.entry.task))
        except PayloadError as error:
            yield CrontabProblem(line.line, line.column, str(error), "warning")
