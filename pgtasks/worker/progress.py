"""Telling the database how far running jobs have come.

Handlers report as often as they like: only the last word of each counts. What has changed is written with one
statement, at most one a second for the whole process. Nobody waits for it, and it waits for nobody; while the database
is away only the last words are kept. A process whose jobs report nothing does nothing here.

What was written of a job is removed together with what is written next after its end, at the latest when the worker
ends: by then somebody else may be reporting about the job, so what counts is the claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

import psycopg

from pgtasks.progress import check_report
from pgtasks.queue.progress import report_progress
from pgtasks.worker.link import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgtasks.job import Job
    from pgtasks.progress import Report
    from pgtasks.worker.link import DatabaseLink

_PAUSE_SECONDS = 1.0
"""From one write to the next, at least."""
_SOON_SECONDS = 0.05
"""From a report to the write that has it, at least, so that reports which come together are written together."""
_LONGEST_PAUSE_SECONDS = 10.0
"""From one write to the next, at most, while they fail."""


class _Told:
    """What the handler of a running job has said."""

    __slots__ = ("changed", "job", "lost", "report", "sent")

    def __init__(self, job: Job, *, sent: bool) -> None:
        self.job = job
        self.report: Report | None = None
        self.changed = False
        """Whether the database does not know it yet."""
        self.sent = sent
        """Whether there may be a row of it."""
        self.lost = False
        """Whether somebody else has the job now."""


class ProgressWriter:
    """Keeps what handlers report, from any thread, and writes it.

    Args:
        link: the database.
        held_ids: tells the ids of the jobs that this process runs.
    """

    def __init__(self, link: DatabaseLink, held_ids: Callable[[], Iterable[int]]) -> None:
        self._link = link
        self._held_ids = held_ids
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        """For the next two; it is never held for longer than a few lines take."""
        self._told: dict[int, _Told] = {}
        self._awake = False
        """Whether the loop has been told that there is something to write."""
        self._wanted = asyncio.Event()
        self._ended: set[int] = set()
        """Ids of the jobs that have ended, and of which there may be rows."""
        self._backoff = Backoff(_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._in_ascii = False

    def report(self, job: Job, done: float, total: float | None = None, note: str | None = None) -> None:
        """Note how far a job has come. What is None stays as the handler has said it before.

        Raises:
            JobOptionError: a number is none, negative or infinite, or the note is no text.
        """
        said = check_report(done, total, note)
        with self._lock:
            told = self._told.get(job.id)
            if told is None or told.job.locked_micros < job.locked_micros:
                told = self._told[job.id] = _Told(job, sent=told is not None and told.sent)
            elif told.lost or told.job.locked_micros > job.locked_micros:
                return
            before = told.report
            if before is not None:
                said = said._replace(
                    total=before.total if total is None else said.total, note=before.note if note is None else said.note
                )
            if said == before:
                return
            told.report, told.changed = said, True
            wake, self._awake = not self._awake, True
        if wake:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and so does this process
                self._loop.call_soon_threadsafe(self._wanted.set)

    async def run(self) -> None:
        """Write what is reported, until cancelled."""
        due = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS if self._told or self._ended else None):
                    await self._wanted.wait()
            await asyncio.sleep(max(_SOON_SECONDS, due - time.monotonic()))
            self._wanted.clear()
            changed = self._take()
            if changed or self._ended:
                due = time.monotonic() + await self._write(changed)

    def _take(self) -> list[_Told]:
        """Return what has to be written, and note which jobs have ended."""
        with self._lock:
            self._awake = False
            held = set(self._held_ids())
            for job_id in [job_id for job_id in self._told if job_id not in held]:
                if self._told.pop(job_id).sent:
                    self._ended.add(job_id)
            changed = [told for told in self._told.values() if told.changed]
            for told in changed:
                told.changed, told.sent = False, True
        return changed

    async def _write(self, changed: list[_Told]) -> float:
        """Write, and return how many seconds to leave the database alone then."""
        ended = set(self._ended)
        reports = [(told.job, told.report) for told in changed if told.report is not None]
        try:
            held = await self._write_in_any_encoding(ended, reports)
        except Exception as error:
            if not self._link.forgives(error, "report_progress"):
                raise
            with self._lock:
                for told in changed:
                    told.changed = True
            return self._backoff.next_pause()
        self._backoff.reset()
        self._ended -= ended
        for told in changed:
            told.lost = told.job.id not in held
        return _PAUSE_SECONDS

    async def _write_in_any_encoding(self, ended: set[int], reports: list[tuple[Job, Report]]) -> set[int]:
        link = self._link
        if not self._in_ascii:
            try:
                return await link.attempt(report_progress(link.statements, link.worker_id, ended, reports))
            except Exception as error:
                # A database of another encoding than UTF-8 cannot hold every note.
                if not _may_be_unencodable(error, reports):
                    raise
                self._in_ascii = True
        plain = [(job, report._replace(note=_ascii(report.note))) for job, report in reports]
        return await link.attempt(report_progress(link.statements, link.worker_id, ended, plain))


def _may_be_unencodable(error: Exception, reports: list[tuple[Job, Report]]) -> bool:
    if not isinstance(error, UnicodeError | psycopg.DataError):
        return False
    return any(report.note is not None and not report.note.isascii() for _, report in reports)


def _ascii(note: str | None) -> str | None:
    return None if note is None else note.encode("ascii", "backslashreplace").decode()
