"""The least plugin that hears of every job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks import hookimpl

if TYPE_CHECKING:
    from pgtasks.plugins import JobEnd

name = "observer"


@hookimpl
def job_finished(end: JobEnd) -> None:
    """Hear of it."""
