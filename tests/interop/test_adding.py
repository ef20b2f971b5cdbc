"""Either side adds jobs for the other."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks import Task
    from pgtasks.job import JobKeyMode
    from tests.interop.conftest import Graphile, Shared, StartNode, StartPython

PAYLOAD = {
    "text": 'Zoë 🐘 \u2028 \\ " \n 漢字 e\u0301 \x7f',
    "largest": 2**53 - 1,
    "smallest": -(2**53 - 1),
    "larger": "123456789012345678901234567890",
    "float": 0.1,
    "far": 1.7976931348623157e308,
    "near": 5e-324,
    "nested": {"": [None, True, {"deep": []}]},
}
ARRAY = [PAYLOAD, [], 1, "two", None]

LATER = dt.datetime(2100, 2, 3, 4, 5, 6, 789000, tzinfo=dt.UTC)
SOONER = dt.datetime(2099, 2, 3, 4, 5, 6, tzinfo=dt.UTC)

DETAILS = """
    select
        job.id, view.task_identifier, view.queue_name, job.payload, job.run_at, job.priority, job.max_attempts, job.key,
        job.flags, job.revision
    from graphile_worker._private_jobs as job join graphile_worker.jobs as view using (id)
    order by job.id
"""


@pytest.fixture
def node_note(database: str) -> Iterator[Task[Any, ..., Any]]:
    """A task that Python only knows by name, so as to add its jobs."""
    app = App(registry=Registry(), database_url=database)

    @app.task(name="node_note")
    def handler(payload: Any) -> None:
        raise NotImplementedError

    yield handler
    app.close()


def test_its_payloads_reach_our_tasks_intact(db: Shared, graphile: Graphile, start_python: StartPython) -> None:
    specs = [{"identifier": "py_note", "payload": payload} for payload in (PAYLOAD, ARRAY)]
    one, more = graphile.call(("addJob", ["py_note", PAYLOAD]), ("addJobs", [specs]))
    assert start_python("--once").wait() == 0
    received = [json.loads(db.payload_of(int(job["id"]))) for job in (one, *more)]
    assert received == [PAYLOAD, PAYLOAD, ARRAY]


def test_our_payloads_reach_its_tasks_intact(db: Shared, node_note: Task[Any, ..., Any], start_node: StartNode) -> None:
    jobs = [node_note.defer(PAYLOAD), *node_note.defer_many([PAYLOAD, ARRAY])]
    start_node()
    for job in jobs:
        db.wait_for_run(job.id)
    assert [json.loads(db.payload_of(job.id)) for job in jobs] == [PAYLOAD, PAYLOAD, ARRAY]


def test_what_either_says_of_a_job_is_stored_alike(
    db: Shared, graphile: Graphile, node_note: Task[Any, ..., Any]
) -> None:
    its = {
        "queueName": "queue 'ö'",
        "runAt": LATER.isoformat(),
        "priority": -7,
        "maxAttempts": 3,
        "jobKey": "its key",
        "flags": ["gpu", "größer"],
    }
    ours: dict[str, Any] = {
        "queue": "queue 'ö'",
        "run_at": LATER,
        "priority": -7,
        "max_attempts": 3,
        "job_key": "our key",
        "flags": ["gpu", "größer"],
    }
    graphile.call(
        ("addJob", ["node_note", {}, its]),
        ("addJobs", [[{"identifier": "node_note", "payload": {}, **its, "jobKey": "its second"}]]),
    )
    node_note.defer({}, **ours)
    node_note.defer_many([node_note.spec({}, **{**ours, "job_key": "our second"})])
    stored = db.rows(DETAILS)
    expected: tuple[Any, ...] = ("node_note", "queue 'ö'", {}, LATER, -7, 3, {"gpu": True, "größer": True}, 0)
    assert [row[1:7] + row[8:] for row in stored] == [expected] * 4
    assert [row[7] for row in stored] == ["its key", "its second", "our key", "our second"]


def test_a_key_means_the_same_job_to_both_in_every_mode(
    db: Shared, graphile: Graphile, node_note: Task[Any, ..., Any]
) -> None:
    modes: tuple[JobKeyMode, ...] = ("replace", "preserve_run_at", "unsafe_dedupe")

    def add_ours(who: str, payload: Any, run_at: dt.datetime) -> None:
        for mode in modes:
            node_note.defer(payload, job_key=f"{who} first, {mode}", job_key_mode=mode, run_at=run_at)

    def add_its(who: str, payload: Any, run_at: dt.datetime) -> None:
        options = [
            {"jobKey": f"{who} first, {mode}", "jobKeyMode": mode, "runAt": run_at.isoformat()} for mode in modes
        ]
        graphile.call(*(("addJob", ["node_note", payload, option]) for option in options))

    add_ours("we", ["first"], LATER)
    add_its("it", ["first"], LATER)
    add_its("we", ["second"], SOONER)
    add_ours("it", ["second"], SOONER)
    found = {key: (payload, run_at, revision) for _, _, _, payload, run_at, _, _, key, _, revision in db.rows(DETAILS)}
    both = ["first", "second"]
    assert found == {
        f"{who} first, {mode}": (payload, run_at, 1)
        for who in ("we", "it")
        for mode, payload, run_at in (
            ("replace", both, SOONER),
            ("preserve_run_at", both, LATER),
            ("unsafe_dedupe", ["first"], LATER),
        )
    }


def test_a_keyed_job_in_the_hands_of_either_side_is_superseded_by_the_other(
    db: Shared, graphile: Graphile, start_node: StartNode, start_python: StartPython
) -> None:
    its_job = graphile.add_job("node_hold", {"permit": "go"}, {"jobKey": "its"})
    our_job = db.app.add_job("hold", {"permit": "go"}, job_key="ours").id
    start_node({"node_hold": "hold"})
    start_python()
    for job in (its_job, our_job):
        db.wait_for_run(job, ended=False)
    its_next = db.app.add_job("node_hold", {"permit": "go"}, job_key="its").id
    our_next = graphile.add_job("hold", {"permit": "go"}, {"jobKey": "ours"})
    assert len({its_job, our_job, its_next, our_next}) == 4
    db.permit("go")
    db.wait_until_empty()
    assert sorted(db.runs("job_id, attempt")) == [(job, 1) for job in sorted([its_job, our_job, its_next, our_next])]
