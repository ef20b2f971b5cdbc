"""What `pgtasks top` shows, as lines and rows of text, however they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pgtasks.cli.progress_output import amount, percent
from pgtasks.cli.tables import Column, count, number, safe, shorten, span
from pgtasks.queue.overview import COUNT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.cli.top_frame import Frame
    from pgtasks.queue.admin import WorkerInfo
    from pgtasks.queue.overview import Counts, RunningJob


class Part(NamedTuple):
    """A table."""

    columns: Sequence[Column]
    rows: list[tuple[str, ...]]
    spare: Sequence[str] = ()
    """The names of the columns that are left out first where there is no room."""


_WORKER: Final = (
    Column("worker", fold=True),
    Column("host"),
    Column("pid", right=True),
    Column("running", right=True),
    Column("jobs/s", right=True),
    Column("succeeded", right=True),
    Column("failed", right=True),
    Column("heartbeat", right=True),
)
_COUNTS: Final = tuple(Column(name, right=True) for name in ("running", "ready", "scheduled", "failed"))
_RUNNING: Final = (
    Column("job", right=True),
    Column("task", fold=True),
    Column("queue", fold=True),
    Column("attempt", right=True),
    Column("worker", fold=True),
    Column("age", right=True),
    Column("done", right=True),
    Column("", right=True),
    Column("note", fold=True),
)
PERCENT: Final = 7
"""Which column of the running jobs says how much of each is done."""
_SPARE_OF_WORKERS: Final = ("pid", "host", "succeeded", "heartbeat")
_SPARE_OF_RUNNING: Final = ("attempt", "worker", "queue", "done")


def headline(frame: Frame) -> str:
    """Return who is there, and how fast it goes."""
    who = f"{count(frame.hosts, 'host')}, {count(len(frame.workers), 'worker')}" if frame.workers else "no worker"
    return f"{who}, {_rate(frame.rate)} jobs/s"


def totals(frame: Frame) -> list[tuple[str, str]]:
    """Return how many jobs there are of each state, with its name."""
    return [(name, _counted(value)) for name, value in frame.survey.all._asdict().items()]


def worker_part(frame: Frame) -> Part:
    """Return the workers, the busiest first."""
    workers = sorted(frame.workers, key=lambda worker: (-_busy(worker), worker.id))
    return Part(_WORKER, [_worker(worker, frame.rates.get(worker.id)) for worker in workers], _SPARE_OF_WORKERS)


def task_part(frame: Frame) -> Part:
    """Return the tasks of which most jobs are running or ready."""
    return Part((Column("task", fold=True), *_COUNTS), [_named(*each) for each in frame.survey.tasks])


def queue_part(frame: Frame) -> Part:
    """Return the queues in which most are."""
    return Part((Column("queue", fold=True), *_COUNTS), [_named(*each) for each in frame.survey.queues])


def running_part(frame: Frame) -> Part:
    """Return the jobs that have been held for longest."""
    return Part(_RUNNING, [_running(job) for job in frame.running], _SPARE_OF_RUNNING)


def _busy(worker: WorkerInfo) -> int:
    return worker.jobs if worker.running is None else worker.running


def _worker(worker: WorkerInfo, rate: float | None) -> tuple[str, ...]:
    return (
        safe(worker.id),
        safe(worker.host or ""),
        "" if worker.pid is None else str(worker.pid),
        number(_busy(worker)),
        "" if rate is None else _rate(rate),
        "" if worker.succeeded is None else number(worker.succeeded),
        "" if worker.failed is None else number(worker.failed),
        "" if worker.heartbeat_age is None else f"{span(worker.heartbeat_age)} ago",
    )


def _named(name: str, counts: Counts) -> tuple[str, ...]:
    numbers = (counts.running, counts.ready, counts.scheduled, counts.failed)
    return (safe(name), *map(_counted, numbers))


def _running(job: RunningJob) -> tuple[str, ...]:
    progress = job.progress
    return (
        str(job.id),
        safe(job.task),
        safe(job.queue or ""),
        f"{job.attempt}/{job.max_attempts}",
        safe(job.worker_id),
        span(job.age),
        "" if progress is None else amount(progress),
        "" if progress is None else percent(progress),
        "" if progress is None else safe(shorten(progress.note or "", 120)),
    )


def _counted(value: int) -> str:
    return f"{number(value)}+" if value >= COUNT_LIMIT else number(value)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
