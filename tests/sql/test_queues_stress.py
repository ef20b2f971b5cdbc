"""Many sessions at once on a few queues: each has one job in flight at most, and every job that is left can be run."""

from __future__ import annotations

import functools
import random
import threading
from typing import TYPE_CHECKING

import pytest

from tests.sql.queue import Background

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

TASKS = ("send", "other")
QUEUES = [None, *(f"q{number}" for number in range(12))]
CALLS, CALLS_OF_LONG_FORM = 200, 1000
"""Of each session that adds."""


class InFlight:
    """Which worker has a job of each queue, by what claims have brought and what workers are about to end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[str, str] = {}
        self.together: list[tuple[str, str, str]] = []
        """Queues of which two jobs were in flight, and who had them."""
        self.advanced = 0
        """How many jobs the statement has brought that ended the one before."""

    def took(self, jobs: list[Row], worker: str) -> None:
        with self._lock:
            for job in jobs:
                if (name := job["queue_name"]) is not None:
                    if name in self._holders:
                        self.together.append((name, self._holders[name], worker))
                    self._holders[name] = worker

    def leaves(self, jobs: list[Row]) -> None:
        with self._lock:
            for job in jobs:
                self._holders.pop(job["queue_name"], None)


def work(session: Queue, in_flight: InFlight, seed: int, done: threading.Event) -> None:
    chance, name = random.Random(seed), f"worker {seed}"
    held: list[Row] = []
    while held or not done.is_set():
        if len(held) < 20 and not done.is_set():
            claimed = session.claim(
                TASKS,
                limit=chance.choice([1, 5, 40]),
                free_slots=chance.choice([0, 1, 40]),
                forbidden=chance.choice([[], ["slow"]]),
                worker=name,
            )
            in_flight.took(claimed, name)
            held += claimed
        chance.shuffle(held)
        several = chance.randint(0, len(held))
        ending, held = held[:several], held[several:]
        in_flight.leaves(ending)
        queued = [job for job in ending if job["queue_name"] is not None]
        if queued and not done.is_set() and chance.random() < 0.7:
            ended, following = session.advance(*queued, tasks=TASKS, worker=name)
            in_flight.took(following, name)
            in_flight.advanced += len(following)
            held += following
            ending = [job for job in ending if job["id"] not in ended]
        outcomes = {job["id"]: chance.choice(["success", "success", "return", "retry"]) for job in ending}
        while ending:
            ends = (
                {**job, "outcome": outcomes[job["id"]], "delay": 0.0, "had_key": bool(job["key"])} for job in ending
            )
            states = session.finish_as_workers_do(*ends, worker=name)
            assert states.keys() == {job["id"] for job in ending}, "a job was lost to somebody else"
            ending = [job for job in ending if states[job["id"]] == "busy"]


def add_and_remove(session: Queue, seed: int, calls: int) -> None:
    chance = random.Random(seed)
    for _ in range(calls):
        key, queue_name = f"k{chance.randrange(40)}", chance.choice(QUEUES)
        match chance.choice(["one", "one", "many", "unkeyed", "remove", "dedupe", "move"]):
            case "one":
                session.add(
                    chance.choice(TASKS),
                    queue_name=queue_name,
                    job_key=key,
                    priority=chance.randint(-1, 1),
                    flags=chance.choice([None, ["slow"]]),
                    max_attempts=chance.choice([1, 2, 25]),
                )
            case "many":
                keys = [None, key]
                session.add_jobs(*({"queue_name": chance.choice(QUEUES), "job_key": one} for one in keys))
            case "unkeyed":
                session.add_unkeyed(*({"queue_name": chance.choice(QUEUES)} for _ in range(20)))
            case "remove":
                session.run("select {gw}.remove_job(%s)", key)
            case "dedupe":
                session.add(job_key=key, job_key_mode="unsafe_dedupe")
            case "move":
                session.run(
                    "select {gw}.reschedule_jobs(array(select id from {gw}._private_jobs order by random() limit 5), "
                    "priority => %s)",
                    chance.randint(-1, 1),
                )


def test_whatever_sessions_do_at_once_a_queue_has_one_job_in_flight(queue: Queue, long_form: bool) -> None:
    calls = CALLS_OF_LONG_FORM if long_form else CALLS
    queue.run("select {gw}._pgtasks_register_task(name) from unnest(%s::text[]) name", list(TASKS))
    in_flight, done = InFlight(), threading.Event()
    with (
        queue.another() as first,
        queue.another() as second,
        queue.another() as third,
        queue.another() as fourth,
        queue.another() as fifth,
        queue.another() as sixth,
    ):
        workers = [
            Background(functools.partial(work, session, in_flight, seed, done))
            for seed, session in enumerate([first, second, third])
        ]
        adders = [
            Background(functools.partial(add_and_remove, session, seed, calls))
            for seed, session in enumerate([fourth, fifth, sixth])
        ]
        for adder in adders:
            adder.result(timeout=120)
        done.set()
        for worker in workers:
            worker.result(timeout=120)
    assert in_flight.together == []
    assert in_flight.advanced > 0
    assert queue.values("select id from {gw}._private_jobs where locked_at is not null") == []
    assert queue.values("select queue_name from {gw}._private_job_queues where locked_at is not null") == []
    runnable = queue.value("select count(*) from {gw}._private_jobs where is_available and run_at <= now()")
    while jobs := queue.claim(TASKS, limit=40, free_slots=40):
        runnable -= len(jobs)
        queue.finish_as_workers_do(*({**job, "outcome": "success", "had_key": bool(job["key"])} for job in jobs))
    assert runnable == 0, "claims find all that there is, and nothing twice"
