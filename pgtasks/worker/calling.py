"""One attempt at a job: what its handler is called with, and what becomes of the job by what it returns or raises.

Nothing here knows of threads, slots or the database.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from dataclasses import replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pgtasks import codec as json_codec
from pgtasks.batches import BatchResult, made_of_class
from pgtasks.context import JobContext
from pgtasks.errors import JobCancelledError, JobTimeoutError, PayloadError
from pgtasks.flow import Decision, Fail, Retry
from pgtasks.job import RETURN, SUCCESS, Outcome, OutcomeKind
from pgtasks.logs import get_logger
from pgtasks.plugins.payloads import decoded
from pgtasks.retry import decide
from pgtasks.worker import forked
from pgtasks.worker.failure import describe, summarize
from pgtasks.worker.forked import end_forked_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.context import JobTransaction, Runner
    from pgtasks.errors import JobAbortedError
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.job import Job
    from pgtasks.options import TaskOptions
    from pgtasks.tasks import AnyTask

log = get_logger("pgtasks.worker")


class InvalidPayload(Exception):  # noqa: N818 - it says what is the matter with a job, and is never seen
    """A job's payload is not what its handler takes."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


def read_job(task: AnyTask, job: Job, codec: PayloadCodec | None) -> tuple[Job, Any]:
    """Read what a handler gets.

    Returns:
        The job as the handler sees it, and its payload; None where it does not take it.

    Raises:
        InvalidPayload: there is nothing that it could be called with.
    """
    if not (task.takes_payload or task.takes_context):
        return job, None
    try:
        seen = job if codec is None else decoded(job, codec)
        if not task.inspected.reads_payload:
            return seen, None
        if task.payload.is_any and task.options.upgrade is None:
            return seen, seen.payload
        return seen, task.payload.load(seen.payload_json, task.options.upgrade)
    except PayloadError as error:
        kind = OutcomeKind.FAIL if task.options.invalid_payload == "fail" else OutcomeKind.RETRY
        raise InvalidPayload(Outcome(kind, summarize(error))) from None


def arguments(
    task: AnyTask, job: Job, payload: Any, runner: Runner, transaction: JobTransaction | None = None
) -> tuple[Any, ...]:
    """Return what `Task.run` is called with."""
    if task.takes_context:
        context = JobContext(job, runner, transaction)
        return (payload, context) if task.takes_payload else (context,)
    return (payload,) if task.takes_payload else ()


def call(task: AnyTask, arguments: tuple[Any, ...]) -> Any:
    """Call a plain handler, and return what it returns."""
    forks = forked.forks
    try:
        result = task.run(*arguments)
    finally:
        if forked.forks != forks:
            end_forked_child()
    if result is not None:
        _expect_awaited(task, result, "declare it with `async def`")
    return result


async def call_async(task: AnyTask, arguments: tuple[Any, ...]) -> Any:
    """Call an `async def` handler, and return what it returns; awaitables in a list are awaited, all at once."""
    forks = forked.forks
    try:
        result = await task.run(*arguments)
        if result is not None and isinstance(result, list | tuple) and any(map(inspect.isawaitable, result)):
            result = await _gathered(result)
    finally:
        if forked.forks != forks:
            end_forked_child()
    if result is not None:
        _expect_awaited(task, result, "`await` it")
    return result


def _expect_awaited(task: AnyTask, result: Any, hint: str) -> None:
    items = result if isinstance(result, list | tuple) else (result,)
    left = [each for each in items if _is_unended(each)]
    for each in left:
        if isinstance(each, CoroutineType):
            each.close()
        else:
            each.cancel()
    if left:
        what = "coroutine" if isinstance(left[0], CoroutineType) else type(left[0]).__name__
        if isinstance(left[0], concurrent.futures.Future):
            hint = "take its `result()`"
        raise TypeError(f"Task {task.name!r} returned a {what} that nobody awaits; {hint}")


def _is_unended(result: Any) -> bool:
    """Whether a result stands for work that is not done, or has failed."""
    if not isinstance(result, asyncio.Future | concurrent.futures.Future):
        return isinstance(result, CoroutineType)
    return not result.done() or result.cancelled() or result.exception() is not None


async def _gathered(items: Sequence[Any]) -> list[Any]:
    results = list(items)
    places = [place for place, item in enumerate(results) if inspect.isawaitable(item)]
    awaited = await asyncio.gather(*(results[place] for place in places), return_exceptions=True)
    for place, result in zip(places, awaited, strict=True):
        results[place] = result
    return results


def outcome_of_result(
    task: AnyTask,
    job: Job,
    payload: Any,
    result: Any,
    codec: PayloadCodec | None,
    asked: JobAbortedError | None = None,
) -> Outcome:
    """Return what becomes of a job whose handler has returned something.

    Args:
        task: its task.
        job: the job as the handler saw it.
        payload: what the handler was given.
        result: what it has returned.
        codec: what payloads are stored with.
        asked: over what the job had been asked to stop before.

    Raises:
        TypeError: the handler has told of a batch what cannot be.
    """
    if result is None:
        return SUCCESS
    result = made_of_class(result)
    if isinstance(result, Decision):
        return outcome_of_error(task, job, result, None)
    if isinstance(result, BatchResult):
        told = result
    elif isinstance(result, list | tuple):
        told = BatchResult.of(result)
    elif isinstance(result, BaseException):
        raise TypeError(
            f"task {task.name!r} returned a {type(result).__name__}, which would count as success; raise it"
        )
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"task {task.name!r} returned a generator, which nobody runs; collect its values first")
    else:
        return SUCCESS
    if not told.failures:
        return SUCCESS
    if isinstance(payload, set | frozenset):
        told.failures_in(payload, task.name)  # complains, since its items have no positions
    # As they are stored: what the handler was given is perhaps another form of it, and perhaps it has changed it.
    items = json_codec.decode(job.payload_json)
    if task.options.upgrade is not None:
        items = task.options.upgrade(items)
    outcome = _outcome_of_batch(task, job, items, told.failures_in(items, task.name), codec)
    if asked is not None and outcome.kind is OutcomeKind.RETRY and not isinstance(asked, JobTimeoutError):
        return replace(RETURN, payload_json=outcome.payload_json)  # what has failed is the consequence
    return outcome


def _outcome_of_batch(
    task: AnyTask, job: Job, items: Sequence[Any], failures: dict[int, BaseException], codec: PayloadCodec | None
) -> Outcome:
    """Return what becomes of a job some of whose items have failed: these are its payload from then on."""
    outcomes = {place: outcome_of_error(task, job, failure, None) for place, failure in failures.items()}
    outcomes = {place: outcome for place, outcome in outcomes.items() if outcome.kind is not OutcomeKind.CANCEL}
    if not outcomes:
        return SUCCESS
    first, *_ = outcomes
    # One that will not be tried again must not take others with it that would be.
    hopeless = all(outcome.kind is OutcomeKind.FAIL for outcome in outcomes.values())
    summary, _, trace = (outcomes[first].error or "").partition("\n\n")
    told = f"{len(outcomes)} of {len(items)} items failed; the first is item {first}"
    error = f"{told}: {summary}" if summary else told
    # Where it is transactional, the work on all items is undone, and so are all left.
    left = None if task.options.transactional else json_codec.encode([items[place] for place in outcomes])
    waits = [outcome.delay for outcome in outcomes.values() if outcome.delay is not None]
    times = [outcome.run_at for outcome in outcomes.values() if outcome.run_at is not None]
    return Outcome(
        OutcomeKind.FAIL if hopeless else OutcomeKind.RETRY,
        f"{error}\n\n{trace}" if trace else error,
        max(waits) if len(waits) == len(outcomes) else None,
        left if left is None or codec is None else codec.encode(left),
        max(times) if len(times) == len(outcomes) else None,
    )


def outcome_of_error(task: AnyTask, job: Job, error: BaseException, asked: JobAbortedError | None) -> Outcome:
    """Return what becomes of a job whose handler has raised something.

    Args:
        task: its task.
        job: the job.
        error: what was raised.
        asked: over what the job had been asked to stop before.
    """
    try:
        return _outcome_of_error(task, job, error, asked)
    except BaseException:  # noqa: BLE001 - one that went further would end the thread, and the job would never end
        return Outcome(OutcomeKind.RETRY, f"{type(error).__qualname__}: <it cannot be looked at>")


def _outcome_of_error(task: AnyTask, job: Job, error: BaseException, asked: JobAbortedError | None) -> Outcome:
    options = task.options
    if asked is not None:
        if isinstance(asked, JobCancelledError):
            return Outcome(OutcomeKind.CANCEL, str(asked))
        if not isinstance(asked, JobTimeoutError):
            return RETURN
        return _outcome_by_rule(options, job, asked, describe(error, f"JobTimeoutError: {asked}"))
    if isinstance(error, Decision):
        return _outcome_of_decision(options, job, error)
    described = summarize(error) if options.expected and isinstance(error, options.expected) else describe(error)
    return _outcome_by_rule(options, job, error, described)


def _outcome_of_decision(options: TaskOptions, job: Job, decision: Decision) -> Outcome:
    cause = decision.__cause__ or (None if decision.__suppress_context__ else decision.__context__)
    described = None
    if cause is not None:
        is_expected = options.expected and isinstance(cause, options.expected)
        described = summarize(cause) if is_expected else describe(cause)
    if isinstance(decision, Fail):
        return decision.outcome(described)
    if not isinstance(decision, Retry):
        return decision.outcome()
    if decision.reason is not None:
        described = decision.reason if described is None else f"{decision.reason}\n\n{described}"
    described = described or "the task asked for another attempt"
    if decision.delay is None and decision.run_at is None:
        return _outcome_by_rule(options, job, cause or decision, described, asked_for=True)
    return decision.outcome(described)


def _outcome_by_rule(
    options: TaskOptions, job: Job, error: BaseException, described: str, *, asked_for: bool = False
) -> Outcome:
    """Return what becomes of a job that has failed, by the rules of its task."""
    if not asked_for:
        final = isinstance(error, options.no_retry_on)
        if final or (options.retry_on is not None and not isinstance(error, options.retry_on)):
            return Outcome(OutcomeKind.FAIL, described)
    if options.retry is None:
        return Outcome(OutcomeKind.RETRY, described)
    try:
        decision = decide(options.retry, job.attempts, error)
    except BaseException:
        log.exception("retry_rule_failed", message="the job is tried again after the usual time")
        return Outcome(OutcomeKind.RETRY, described)
    return Outcome(OutcomeKind.RETRY, described) if decision is None else decision.outcome(described)
