"""What Sentry is told of runs: each has scopes of its own, in which its failure is reported once that is a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk.scope import use_isolation_scope, use_scope
from sentry_sdk.utils import event_from_exception

from pgtasks import PgtasksError
from pgtasks_sentry.carrier import headers_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from sentry_sdk import Scope

    from pgtasks import Job
    from pgtasks.plugins import JobEnd
    from pgtasks_sentry.settings import SentrySettings

_MOST: Final = 1_000
"""So many failed runs may wait for being reported. Those that are snoozed or cancelled instead are not told of."""


class Runs:
    """Gives each run its scopes, and keeps those of failed ones until the database has the failure.

    Args:
        settings: the plugin's.
    """

    def __init__(self, settings: SentrySettings) -> None:
        self.settings = settings
        self._failed: dict[int, tuple[Job, Scope, Scope]] = {}
        """By the identity of the job, which is the same object in all hooks of a run."""

    def open(self, job: Job) -> Run:
        """Return a context manager that a run is isolated in."""
        return Run(self, job)

    def keep(self, job: Job, isolation: Scope, current: Scope) -> None:
        """Keep the scopes of a run that has raised an error."""
        self._failed[id(job)] = job, isolation, current
        while len(self._failed) > _MOST:
            try:
                del self._failed[next(iter(self._failed))]
            except (KeyError, RuntimeError, StopIteration):  # another thread is at it
                return

    def report(self, end: JobEnd, level: str) -> None:
        """Report a failure, in the scopes of its run if it has got that far."""
        _, isolation, current = self._failed.pop(id(end.job), (None, None, None))
        if isolation is None or current is None:
            with sentry_sdk.isolation_scope() as scope:
                describe(scope, end.job)
                self._capture(end, level)
        else:
            with use_isolation_scope(isolation), use_scope(current):
                self._capture(end, level)

    def forget(self, end: JobEnd) -> None:
        """Drop what was kept of a run whose failure is not reported."""
        self._failed.pop(id(end.job), None)

    def _capture(self, end: JobEnd, level: str) -> None:
        options = dict(sentry_sdk.get_client().options)
        options["include_local_variables"] = options.get("include_local_variables") and self.settings.send_payload
        event: Any
        hint: Any = {}
        if end.exception is not None:
            mechanism = {"type": "pgtasks", "handled": False}
            event, hint = event_from_exception(end.exception, client_options=options, mechanism=mechanism)
        else:
            event = {"message": (end.error or "the job has failed").partition("\n")[0]}
            event["fingerprint"] = ["pgtasks", "{{ default }}", end.job.task]
        if end.timed_out:
            # Where it was interrupted is chance.
            event["fingerprint"] = ["pgtasks", "timed out", end.job.task]
        event["level"] = level
        event["tags"] = {"pgtasks.state": end.state}
        if self.settings.send_payload:
            event["contexts"] = {"pgtasks payload": {"payload": _payload(end.job)}}
        sentry_sdk.capture_event(event, hint)


class Run:
    """One run: a context manager."""

    __slots__ = ("_isolated", "_isolation", "_job", "_runs", "_transaction")

    def __init__(self, runs: Runs, job: Job) -> None:
        self._runs = runs
        self._job = job
        self._transaction: Any = None

    def __enter__(self) -> None:
        self._isolated: AbstractContextManager[Scope] = sentry_sdk.isolation_scope()
        self._isolation = self._isolated.__enter__()
        # What the process has done before belongs to other jobs.
        self._isolation.clear_breadcrumbs()
        describe(self._isolation, self._job)
        if self._runs.settings.traces:
            self._transaction = _start_transaction(self._job)
            self._transaction.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if error is not None:
            self._runs.keep(self._job, self._isolation, sentry_sdk.get_current_scope().fork())
        if self._transaction is not None:
            # With an error it would report that to the scope of a session.
            self._transaction.set_status("ok" if error is None else "internal_error")
            self._transaction.__exit__(None, None, None)
        self._isolated.__exit__(None, None, None)


def describe(scope: Scope, job: Job) -> None:
    """Tell a scope which job it is for."""
    scope.set_transaction_name(job.task, source="task")
    scope.set_tag("pgtasks.task", job.task)
    if job.queue is not None:
        scope.set_tag("pgtasks.queue", job.queue)
    scope.set_context(
        "pgtasks",
        {
            "job_id": job.id,
            "task": job.task,
            "attempt": job.attempts,
            "max_attempts": job.max_attempts,
            "queue": job.queue,
            "key": job.key,
            "flags": list(job.flags),
            "priority": job.priority,
            "created_at": job.created_at.isoformat(),
            "run_at": job.run_at.isoformat(),
            "worker": job.locked_by,
        },
    )


def _start_transaction(job: Job) -> Any:
    transaction = sentry_sdk.continue_trace(
        headers_of(job.flags), op="queue.process", name=job.task, source="task", origin="auto.queue.pgtasks"
    )
    started = sentry_sdk.start_transaction(transaction)
    started.set_data("messaging.system", "pgtasks")
    started.set_data("messaging.destination.name", job.task)
    started.set_data("messaging.message.id", str(job.id))
    started.set_data("messaging.message.retry.count", job.attempts - 1)
    if job.locked_at is not None:
        waited = max(0, job.locked_micros - job.due_micros) / 1000
        started.set_data("messaging.message.receive.latency", waited)
    return started


def _payload(job: Job) -> Any:
    try:
        return job.payload
    except PgtasksError as error:
        return f"<{error}>"
