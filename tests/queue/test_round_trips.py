"""How often what adds jobs goes to the server and back: what it costs where the server is far away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import App, JobSpec, Registry
from pgtasks.queue import bulk
from tests.queue.counting import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNPREPARED = "PBDES"
PREPARING = "PS"
PREPARED = "BDES"
SIMPLE = "Q"


@pytest.fixture
def proxy(database: str) -> Iterator[CountingProxy]:
    with CountingProxy(database) as proxy:
        yield proxy


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest, proxy: CountingProxy) -> Iterator[Callable[..., Any]]:
    """Call a method of an App, or its counterpart. Its pool has a connection already."""
    app = App(registry=Registry(), database_url=proxy.conninfo)
    with asyncio.Runner() as runner:

        def call(name: str, *args: Any, **options: Any) -> Any:
            if request.param == "blocking":
                return getattr(app, name)(*args, **options)
            return runner.run(getattr(app, f"{name}_async")(*args, **options))

        call("add_job", "send", job_key="k", job_key_mode="preserve_run_at")
        proxy.flights()
        yield call
        runner.run(app.aclose())
        app.close()


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "q", "delay": 5, "flags": ["a"]},
        {"notify": False},
        {"job_key": "k", "job_key_mode": "unsafe_dedupe", "notify": False},
    ],
    ids=["all", "quietly", "keyed"],
)
def test_a_job_is_added_with_one_round_trip(
    call: Callable[..., Any], proxy: CountingProxy, options: dict[str, Any]
) -> None:
    costs = []
    for number in range(10):
        call("add_job", "send", {"number": number}, **{**options, "job_key": options.get("job_key") and str(number)})
        costs.append(proxy.flights())
    # The driver prepares what it has executed five times, which takes one more, once a connection.
    assert costs == [[UNPREPARED]] * 5 + [[PREPARING, PREPARED]] + [[PREPARED]] * 4


def test_names_are_asked_for_only_where_a_job_was_there(call: Callable[..., Any], proxy: CountingProxy) -> None:
    call("add_job", "send", job_key="new", job_key_mode="unsafe_dedupe")
    assert proxy.flights() == [UNPREPARED]
    call("add_job", "other", job_key="new", job_key_mode="unsafe_dedupe")
    assert proxy.flights() == [UNPREPARED, UNPREPARED]


@pytest.mark.parametrize("returning", [True, False])
@pytest.mark.parametrize("key", [None, "k"])
def test_jobs_that_fit_into_a_statement_are_added_with_one_round_trip(
    call: Callable[..., Any], proxy: CountingProxy, key: str | None, returning: bool
) -> None:
    specs = (JobSpec(task="send", payload=number, job_key=key) for number in range(1000))
    call("add_jobs", specs, returning=returning)
    assert proxy.flights() == [UNPREPARED]


@pytest.mark.parametrize("with_iterator", [True, False])
def test_more_jobs_take_one_for_each_statement_and_three_for_the_transaction(
    call: Callable[..., Any], proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch, with_iterator: bool
) -> None:
    monkeypatch.setattr(bulk, "BATCH_JOBS", 100)
    specs = [JobSpec(task="send", payload=number) for number in range(350)]
    assert call("add_jobs", iter(specs) if with_iterator else specs, returning=False) == 350
    register, begin, *batches, commit = proxy.flights()
    assert (register, begin, commit) == (UNPREPARED, SIMPLE, SIMPLE)
    assert batches == [UNPREPARED] * 4


def test_in_the_callers_transaction_a_call_is_one_round_trip_more(proxy: CountingProxy) -> None:
    app = App(registry=Registry(), database_url=proxy.conninfo)
    with psycopg.connect(proxy.conninfo, autocommit=True) as own, own.transaction():
        proxy.flights()
        app.add_job("send", connection=own)
        assert proxy.flights() == [UNPREPARED]
        app.add_jobs([JobSpec(task="send")] * 10, connection=own)
        assert proxy.flights() == [UNPREPARED]
