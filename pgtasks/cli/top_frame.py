"""One look at the queue for `pgtasks top`: what there is, and how fast it goes. Never with payloads."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from pgtasks.cli.progress_output import progress_object
from pgtasks.cli.tables import as_utc
from pgtasks.queue import admin, overview

if TYPE_CHECKING:
    from pgtasks.app import App
    from pgtasks.queue.admin import WorkerInfo
    from pgtasks.queue.overview import Counts, RunningJob, Survey

_WORKERS: Final = 1_000
NAMES: Final = 10
"""How many tasks, and how many queues, are told of."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the database says at one moment."""

    at: dt.datetime
    """When that was, by this machine's clock."""
    workers: list[WorkerInfo]
    rates: dict[str, float]
    """Jobs a second, by the id of the worker."""
    survey: Survey
    running: list[RunningJob]
    """Those that have been held for longest."""

    @property
    def hosts(self) -> int:
        """How many hosts the workers are on."""
        return len({worker.host for worker in self.workers})

    @property
    def rate(self) -> float:
        """Jobs a second of all workers."""
        return sum(self.rates.values())


class Looks:
    """Takes one frame after the other.

    A worker tells with its heartbeats how many jobs it has run by then, so its rate is that between its last two
    heartbeats that were seen, and at first that since its start.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._seen: dict[str, tuple[dt.datetime, int]] = {}
        self._rates: dict[str, float] = {}

    def frame(self, jobs: int) -> Frame:
        """Ask the database; three statements.

        Args:
            jobs: How many of the running jobs to tell of, at most.

        Raises:
            PgtasksError: It cannot be used.
        """
        app, sql = self._app, self._app.statements
        first = not self._seen
        with app.connection() as connection:
            workers = app.run(admin.workers(sql, _WORKERS), connection)
            survey = app.run(overview.survey(sql, NAMES), connection)
            running = app.run(overview.list_running(sql, jobs), connection)
            if first and not any(survey.all):
                app.run(admin.check_visible(sql), connection)
        self._count(workers)
        return Frame(dt.datetime.now().astimezone(), workers, dict(self._rates), survey, running)

    def _count(self, workers: list[WorkerInfo]) -> None:
        seen, rates = {}, {}
        for worker in workers:
            if worker.started_at is None or worker.heartbeat_at is None:
                continue  # not one of pgtasks
            jobs = (worker.succeeded or 0) + (worker.failed or 0)
            at, before = self._seen.get(worker.id, (worker.started_at, 0))
            seconds = (worker.heartbeat_at - at).total_seconds()
            if seconds > 0:
                rates[worker.id] = max(0, jobs - before) / seconds
                seen[worker.id] = (worker.heartbeat_at, jobs)
            else:
                rates[worker.id] = self._rates.get(worker.id, 0.0)
                seen[worker.id] = (at, before)
        self._seen, self._rates = seen, rates


def frame_object(frame: Frame) -> dict[str, Any]:
    """Return a frame for `show_json`."""
    return {
        "at": as_utc(frame.at),
        "rate": round(frame.rate, 3),
        "jobs": frame.survey.all._asdict(),
        "counted_up_to": overview.COUNT_LIMIT,
        "workers": [_worker_object(worker, frame.rates.get(worker.id)) for worker in frame.workers],
        "running": [_running_object(job) for job in frame.running],
        "tasks": [_named(name, counts) for name, counts in frame.survey.tasks],
        "queues": [_named(name, counts) for name, counts in frame.survey.queues],
    }


def _worker_object(worker: WorkerInfo, rate: float | None) -> dict[str, Any]:
    facts = asdict(worker)
    facts |= {name: as_utc(value) for name, value in facts.items() if isinstance(value, dt.datetime)}
    return facts | {"rate": None if rate is None else round(rate, 3)}


def _running_object(job: RunningJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "worker": job.worker_id,
        "locked_at": as_utc(job.locked_at),
        "age": job.age,
        "progress": None if job.progress is None else progress_object(job.progress),
    }


def _named(name: str, counts: Counts) -> dict[str, Any]:
    return {"name": name, **counts._asdict()}
