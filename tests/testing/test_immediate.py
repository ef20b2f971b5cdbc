"""In eager mode jobs run where they are added, without a database, with what a worker would give them."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import (
    App,
    JobContext,
    JobOptionError,
    JobWaitTimeoutError,
    PayloadError,
    PgtasksError,
    Registry,
    Snooze,
    TaskDefinitionError,
    task,
)
from pgtasks.plugins import hookimpl
from pgtasks.testing import deferred_jobs, eager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pgtasks.testing import EagerJobs

    MakeApp = Callable[..., App]

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nowhere() -> Iterator[None]:
    """No database, for Apps that are made in the test; and the App of `pgtasks.task` is one of them."""
    seen.clear()
    App(database_url="host=there-is-no-such-host.invalid")
    yield
    App()


@task(name="eager_mail")
def mail(*, to: str, number: uuid.UUID | None = None) -> None:
    seen.append((to, number, threading.get_ident()))


@task(name="eager_sign_up", queue="people", store_result=True)
async def sign_up(payload: dict[str, Any], ctx: JobContext) -> str:
    await asyncio.sleep(0)
    seen.append((payload, ctx.job.queue, ctx.attempt))
    await mail.defer_async({"to": payload["to"]})
    return "welcome"


NUMBER = uuid.UUID(int=7)


@task(name="eager_fail")
def fail() -> None:
    raise ValueError("on purpose")


@task(name="eager_poll")
def poll() -> Snooze:
    poll.defer(delay=3600)
    return Snooze(60)


@task(name="eager_again")
def again() -> None:
    again.defer()


def test_a_job_runs_before_defer_returns_with_what_a_worker_would_give_it(pgtasks_eager: EagerJobs) -> None:
    job = mail.defer({"to": "ada", "number": NUMBER}, job_key="ada", priority=3, connection=object())  # type: ignore[call-overload]
    assert seen == [("ada", NUMBER, threading.get_ident())]
    assert (job.id, job.payload, job.key, job.attempts) == (1, {"to": "ada", "number": str(NUMBER)}, "ada", 0)
    sign_up.defer({"to": "bob", "tuple": (1, 2)})
    assert seen[1] == ({"to": "bob", "tuple": [1, 2]}, "people", 1)
    assert [(run.job.task, run.value) for run in pgtasks_eager.runs] == [
        ("eager_mail", None),
        ("eager_mail", None),
        ("eager_sign_up", "welcome"),
    ]


def test_jobs_that_have_run_can_be_waited_for(pgtasks_eager: EagerJobs) -> None:
    assert sign_up.defer({"to": "bob"}).wait() == "welcome"
    assert mail.defer({"to": "bob"}).wait() is None
    with pytest.raises(JobWaitTimeoutError, match="in eager mode no job runs at a later time"):
        mail.defer({"to": "bob"}, delay=60).wait()


def test_from_asyncio_code_it_runs_in_the_event_loop_or_in_a_thread(pgtasks_eager: EagerJobs) -> None:
    async def addresses() -> AsyncIterator[dict[str, str]]:
        yield {"to": "cyd"}
        yield {"to": "dan"}

    async def run() -> None:
        await sign_up.defer_async({"to": "ada"})
        assert seen[-1][:2] == ("ada", None)
        assert seen[-1][2] != threading.get_ident()
        sign_up.defer({"to": "bob"})  # blocking, where a loop runs
        assert await mail.defer_many_async(addresses(), returning=False) == 2

    asyncio.run(run())
    assert [run.job.payload["to"] for run in pgtasks_eager.runs] == ["ada", "ada", "bob", "bob", "cyd", "dan"]


def test_what_is_wrong_is_raised_as_it_is(pgtasks_eager: EagerJobs) -> None:
    with pytest.raises(ValueError, match=r"^on purpose$"):
        fail.defer()
    with pytest.raises(PayloadError, match="eager_mail"):
        mail.defer({"too": "ada"})
    with pytest.raises(JobOptionError, match="has no time zone"):
        mail.defer({"to": "ada"}, run_at=dt.datetime(2031, 1, 1))  # noqa: DTZ001 - on purpose
    with pytest.raises(TaskDefinitionError, match="'eager_mial' is not registered; did you mean 'eager_mail'"):
        App().add_job("eager_mial")
    with pytest.raises(PayloadError, match="number 1 of the jobs to add"):
        mail.defer_many([{"to": "ada"}, {"too": "bob"}])
    assert [run.job.task for run in pgtasks_eager.runs] == ["eager_fail"]


def test_what_is_for_later_does_not_run(pgtasks_eager: EagerJobs) -> None:
    mail.defer({"to": "ada"}, run_at=dt.datetime(2131, 1, 1, tzinfo=dt.UTC))
    poll.defer()
    assert seen == []
    assert [(job.task, job.id) for job in pgtasks_eager.later] == [
        ("eager_mail", 1),
        ("eager_poll", 3),
        ("eager_poll", 2),
    ]


def test_jobs_that_add_each_other_for_ever_are_noticed(pgtasks_eager: EagerJobs) -> None:
    with pytest.raises(PgtasksError, match=r"50 jobs run inside of each other, .* task 'eager_again'.*Use run_jobs"):
        again.defer()


class _Plugin:
    @hookimpl
    def before_defer(self, specs: list[Any]) -> None:
        seen.append([spec.task for spec in specs])

    @hookimpl
    def after_defer(self, jobs: list[Any]) -> None:
        seen.append(len(jobs))


def test_one_app_may_be_eager_and_be_as_it_was_afterwards(pgtasks_app: MakeApp) -> None:
    app = pgtasks_app(plugins=[_Plugin()], registry=Registry())

    @app.task(transactional=True)
    def count(payload: int, ctx: JobContext) -> None:
        cursor = ctx.transaction.execute("select %s + 1", [payload])
        seen.append(cursor.fetchone()[0])

    with eager(app) as jobs:
        count.defer_many([count.spec(1), 2])
        assert not deferred_jobs(app=app)
        app.add_job("count", 3)
        with eager():
            count.defer(4)
    assert [item for item in seen if isinstance(item, int)].count(2) >= 1
    assert len(jobs.runs) == 4
    assert ["count", "count"] in seen
    count.defer(5)
    assert [job.payload for job in deferred_jobs(app=app)] == [5]


def test_a_context_that_is_to_defer_what_is_no_task_says_so() -> None:
    app = App(registry=Registry())

    @app.task
    def follow(payload: None, ctx: JobContext) -> None:
        name: Any = "send_mail"
        ctx.defer(name, {})

    with eager(app), pytest.raises(JobOptionError, match=r"not 'send_mail'; for one .* ctx\.app\.add_job"):
        follow.defer(None)
