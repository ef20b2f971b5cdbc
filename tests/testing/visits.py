"""A module that is a plugin."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel

from pgtasks.plugins import hookimpl

if TYPE_CHECKING:
    from pgtasks.plugins import Application, JobEnd

name = "visits"
log = logging.getLogger(__name__)
settings: VisitsSettings


class VisitsSettings(BaseModel):
    greeting: str = "visited"
    only: tuple[str, ...] = ()


@hookimpl
def configure(app: Application) -> None:
    global settings
    settings = app.plugin_settings(name, VisitsSettings)


@hookimpl
def job_finished(end: JobEnd) -> None:
    if not settings.only or end.job.task in settings.only:
        log.info("%s: %s", settings.greeting, end.job.task)
