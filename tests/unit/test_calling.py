"""What becomes of a job by what its handler returns or raises; that a worker does it is in `tests/worker`."""

from __future__ import annotations

import asyncio
import datetime as dt
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Backoff, BatchResult, Cancel, Fail, JobOptionError, Registry, Retry, Snooze
from pgtasks.errors import JobAbortedError, JobCancelledError, JobTimeoutError
from pgtasks.job import RETURN, SUCCESS, Job, Outcome, OutcomeKind
from pgtasks.worker.calling import (
    InvalidPayload,
    call,
    call_async,
    outcome_of_error,
    outcome_of_result,
    read_job,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.hookdata import PayloadCodec
    from pgtasks.tasks import AnyTask

NOON = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
RETRY, FAIL, CANCEL, SNOOZE = OutcomeKind.RETRY, OutcomeKind.FAIL, OutcomeKind.CANCEL, OutcomeKind.SNOOZE


def task_of(handler: Callable[..., object], **options: Any) -> AnyTask:
    made: AnyTask = App(registry=Registry()).task(name="send", **options)(handler)
    return made


def plain(payload: Any) -> None: ...


def items(payload: list[str]) -> None: ...


def job(payload: str = "{}", attempts: int = 1) -> Job:
    return Job(
        id=1,
        task="send",
        queue=None,
        payload_json=payload,
        priority=0,
        run_at=NOON,
        attempts=attempts,
        max_attempts=25,
        last_error=None,
        created_at=NOON,
        updated_at=NOON,
        key=None,
        locked_at=NOON,
        locked_by="worker",
        revision=0,
    )


def raised(make: Callable[[], BaseException], cause: BaseException | None = None) -> BaseException:
    """An exception as a handler raises it, while another is handled."""
    try:
        if cause is not None:
            try:
                raise cause
            except BaseException:  # noqa: BLE001
                raise make()  # noqa: B904
        raise make()
    except BaseException as error:  # noqa: BLE001
        return error


def after(error: BaseException, *, attempts: int = 1, **options: Any) -> Outcome:
    return outcome_of_error(task_of(plain, **options), job(attempts=attempts), error, None)


def first_line(outcome: Outcome) -> str:
    return (outcome.error or "").partition("\n")[0]


# What is raised


def test_an_error_is_tried_again_after_the_usual_time_with_its_traceback() -> None:
    outcome = after(raised(lambda: ValueError("no luck")))
    assert (outcome.kind, outcome.delay, first_line(outcome)) == (RETRY, None, "ValueError: no luck")
    assert "raise make()" in (outcome.error or "")


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [
        (Retry(5), Outcome(RETRY, "the task asked for another attempt", 5.0)),
        (Retry(run_at=NOON, reason="busy"), Outcome(RETRY, "busy", run_at=NOON)),
        (Retry(), Outcome(RETRY, "the task asked for another attempt")),
        (Snooze(5), Outcome(SNOOZE, delay=5.0)),
        (Cancel("gone"), Outcome(CANCEL, "gone")),
        (Fail("gone"), Outcome(FAIL, "gone")),
    ],
)
def test_a_decision_is_done_whether_raised_or_returned(decision: Any, outcome: Outcome) -> None:
    assert after(raised(lambda: decision)) == outcome
    assert outcome_of_result(task_of(plain), job(), {}, decision, None) == outcome


def test_a_decision_keeps_the_error_over_which_it_was_made() -> None:
    assert first_line(after(raised(lambda: Fail("gone"), ValueError("404")))) == "gone"
    outcome = after(raised(lambda: Fail("gone"), ValueError("404")))
    assert (outcome.error or "").startswith("gone\n\nValueError: 404\n\nTraceback")
    outcome = after(raised(lambda: Retry(reason="busy"), ValueError("503")), expected=ValueError)
    assert outcome.error == "busy\n\nValueError: 503"
    assert after(raised(lambda: Retry(5), ValueError("503")), expected=ValueError).error == "ValueError: 503"

    hidden = raised(lambda: Fail("gone"), ValueError("404"))
    hidden.__suppress_context__ = True  # as `raise … from None` does
    assert after(hidden) == Outcome(FAIL, "gone")


def test_a_class_in_place_of_a_decision_is_taken_as_raise_takes_it() -> None:
    assert outcome_of_result(task_of(plain), job(), {}, Retry, None).kind is RETRY
    with pytest.raises(JobOptionError, match="say when the job runs"):
        outcome_of_result(task_of(plain), job(), {}, Snooze, None)


# Rules


def test_the_rules_of_a_task_say_what_becomes_of_an_error() -> None:
    assert after(ValueError(), retry=[1, 60], attempts=2).delay == 60
    assert after(ValueError(), retry=Backoff(first=3, jitter=0), attempts=2).delay == 6
    assert after(ValueError(), retry=lambda attempt, error: Cancel("enough")) == Outcome(CANCEL, "enough")
    assert after(ValueError("x"), retry=lambda attempt, error: Fail("enough")).error == "enough\n\nValueError: x"
    assert after(ValueError(), retry=lambda attempt, error: Snooze(5)) == Outcome(SNOOZE, delay=5.0)
    assert after(ValueError(), retry=lambda attempt, error: None) == Outcome(RETRY, "ValueError")


def test_errors_that_are_not_to_be_tried_again_are_not() -> None:
    options: dict[str, Any] = {"retry": [5], "retry_on": (OSError, ValueError), "no_retry_on": FileNotFoundError}
    assert after(TimeoutError(), **options) == Outcome(RETRY, "TimeoutError", 5.0)
    assert after(FileNotFoundError(), **options) == Outcome(FAIL, "FileNotFoundError")
    assert after(TypeError(), **options) == Outcome(FAIL, "TypeError")


def test_what_a_handler_decides_stands_against_the_rules() -> None:
    options: dict[str, Any] = {"retry": [7], "retry_on": OSError}
    assert after(Retry(5), **options).delay == 5
    assert after(Retry(), **options).delay == 7
    assert after(raised(Retry, TypeError()), **options).delay == 7


def test_an_expected_error_has_no_traceback() -> None:
    assert after(raised(lambda: ValueError("no luck")), expected=[TypeError, ValueError]).error == "ValueError: no luck"


@pytest.mark.parametrize("answer", ["soon", -1, True])
def test_a_rule_that_answers_wrongly_is_no_rule(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert after(ValueError("x"), retry=lambda attempt, error: answer) == Outcome(RETRY, "ValueError: x")


@pytest.mark.parametrize("wrong", [KeyError("x"), SystemExit(), KeyboardInterrupt()])
def test_a_rule_that_raises_is_no_rule(wrong: BaseException) -> None:
    def rule(attempt: int, error: BaseException) -> float:
        raise wrong

    assert after(ValueError("x"), retry=rule) == Outcome(RETRY, "ValueError: x")


def test_a_job_that_was_asked_to_stop_ends_as_it_was_asked_whatever_it_raises() -> None:
    task = task_of(plain, retry=[5], no_retry_on=ValueError)

    def asked(error: JobAbortedError) -> Outcome:
        return outcome_of_error(task, job(), ValueError("x"), error)

    assert asked(JobAbortedError("the worker ends")) is RETURN
    assert asked(JobCancelledError("by hand")) == Outcome(CANCEL, "by hand")
    assert asked(JobTimeoutError("5 s")).kind is RETRY
    assert (asked(JobTimeoutError("5 s")).delay, first_line(asked(JobTimeoutError("5 s")))) == (
        5,
        "JobTimeoutError: 5 s",
    )


# Batches


def after_batch(
    result: Any, payload: str = '["a", "b", "c"]', codec: PayloadCodec | None = None, **options: Any
) -> Outcome:
    task = task_of(items, **options)
    seen, given = read_job(task, job(payload), None)
    return outcome_of_result(task, seen, given, result, codec)


def test_only_items_that_have_failed_are_left() -> None:
    error = "2 of 3 items failed; the first is item 0: ValueError: x"
    for result in ([ValueError("x"), None, TypeError()], BatchResult({0: ValueError("x"), 2: TypeError()})):
        assert after_batch(result) == Outcome(RETRY, error, payload_json='["a","c"]')
    assert after_batch([None, 5, "x"]) is SUCCESS
    assert after_batch([]) is SUCCESS
    assert after_batch(BatchResult()) is SUCCESS


def test_decisions_about_items_are_decisions_about_the_rest() -> None:
    def left(*results: Any, **options: Any) -> tuple[OutcomeKind, float | None, str | None]:
        outcome = after_batch(results, **options)
        return outcome.kind, outcome.delay, outcome.payload_json

    assert left(Retry(5), None, Retry(9)) == (RETRY, 9, '["a","c"]')
    assert left(Retry(5), None, ValueError()) == (RETRY, None, '["a","c"]')
    assert left(Retry(5), None, ValueError(), retry=[7]) == (RETRY, 7, '["a","c"]')
    assert left(Snooze(5), None, None) == (RETRY, 5, '["a"]')
    assert left(Fail("gone"), None, None) == (FAIL, None, '["a"]')
    assert left(ValueError(), None, Fail("gone"), no_retry_on=ValueError) == (FAIL, None, '["a","c"]')
    assert left(ValueError(), None, Fail("gone")) == (RETRY, None, '["a","c"]')
    assert left(Cancel("gone"), None, ValueError()) == (RETRY, None, '["c"]')
    assert after_batch([Cancel("gone"), None, Cancel("gone")]) is SUCCESS
    assert after_batch([Retry(run_at=NOON), None, None]).run_at == NOON


def test_what_is_left_is_as_it_was_stored_whatever_the_handler_has_done_to_it() -> None:
    task = task_of(plain)
    stored = job('[1.10, {"a": 123456789012345678901234567890}]')
    seen, given = read_job(task, stored, None)
    given.clear()
    outcome = outcome_of_result(task, seen, given, BatchResult({1: ValueError()}), None)
    assert outcome.payload_json == '[{"a":123456789012345678901234567890}]'

    @dataclass
    class Email:
        to: str

    def typed(payload: tuple[Email, ...]) -> None: ...

    task = task_of(typed)
    seen, given = read_job(task, job('[{"to": "ada", "unknown": 5}, {"to": "bob"}]'), None)
    assert outcome_of_result(task, seen, given, [ValueError(), None], None).payload_json == '[{"to":"ada","unknown":5}]'


def test_what_is_left_of_a_payload_of_old_is_as_it_was_upgraded() -> None:
    def upgrade(payload: Any) -> Any:
        return payload["names"] if isinstance(payload, dict) else payload

    outcome = after_batch(BatchResult({1: ValueError()}), '{"names": ["a", "b"]}', upgrade=upgrade)
    assert outcome.payload_json == '["b"]'


@pytest.mark.parametrize("result", [[ValueError()], BatchResult({5: ValueError()})])
def test_failures_that_belong_to_no_item_are_an_error_of_the_handler(result: Any) -> None:
    with pytest.raises(TypeError, match=r"for 3 items|item 5, and there are 3"):
        after_batch(result)


# Coroutines that nobody awaits


async def coroutine() -> None: ...


@pytest.mark.parametrize("result", [lambda: coroutine(), lambda: [None, coroutine()]])  # noqa: PLW0108
def test_a_coroutine_from_a_plain_handler_is_no_success(result: Callable[[], object]) -> None:
    with pytest.raises(TypeError) as caught:
        call(task_of(lambda: result()), ())  # noqa: PLW0108
    assert str(caught.value) == ("Task 'send' returned a coroutine that nobody awaits; declare it with `async def`")


def test_an_async_handler_may_return_a_list_of_awaitables_but_no_coroutine() -> None:
    async def failing() -> None:
        raise ValueError("x")

    async def gathers() -> object:
        return [coroutine(), failing(), 5]

    async def forgets() -> object:
        return coroutine()

    results = asyncio.run(call_async(task_of(gathers), ()))
    assert [repr(each) for each in results] == ["None", "ValueError('x')", "5"]
    with pytest.raises(TypeError) as caught:
        asyncio.run(call_async(task_of(forgets), ()))
    assert str(caught.value) == "Task 'send' returned a coroutine that nobody awaits; `await` it"


def failed() -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(ValueError("x"))
    return future


@pytest.mark.parametrize("future", [Future, failed])
def test_a_future_of_work_that_is_not_done_or_has_failed_is_no_success(future: Callable[[], Future[None]]) -> None:
    left = future()
    with pytest.raises(TypeError, match=r"^Task 'send' returned a Future that nobody awaits; take its `result\(\)`$"):
        call(task_of(lambda: [None, left]), ())
    assert left.done()
    done: Future[None] = Future()
    done.set_result(None)
    assert call(task_of(lambda: done), ()) is done


def test_an_async_handler_that_returns_a_task_has_not_done_its_work() -> None:
    async def forgets() -> object:
        return asyncio.create_task(asyncio.sleep(600))

    async def run() -> None:
        with pytest.raises(TypeError, match=r"^Task 'send' returned a Task that nobody awaits; `await` it$"):
            await call_async(task_of(forgets), ())
        (left,) = asyncio.all_tasks() - {asyncio.current_task()}
        with pytest.raises(asyncio.CancelledError):
            await left

    asyncio.run(run())


# Invalid payloads


@pytest.mark.parametrize(("choice", "kind"), [("fail", FAIL), ("retry", RETRY)])
def test_an_invalid_payload_ends_the_attempt_as_the_task_says(choice: str, kind: OutcomeKind) -> None:
    with pytest.raises(InvalidPayload) as caught:
        read_job(task_of(items, invalid_payload=choice), job('{"a": 1}'), None)
    assert caught.value.outcome == Outcome(
        kind, "PayloadError: task 'send' cannot take this payload: it should be a valid array, not dict"
    )


def test_a_handler_that_takes_nothing_of_its_payload_takes_any() -> None:
    assert read_job(task_of(lambda: None), job("1e99999999999999999999"), None)[1] is None
