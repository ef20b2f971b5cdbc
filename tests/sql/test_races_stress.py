"""Many sessions at once on a few keys: whatever the order, each event is run once, unless it was taken back."""

from __future__ import annotations

import functools
import itertools
import json
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.sql.queue import Background
from tests.sql.test_races import count_locked, drain, is_real, register

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

KEYS = ["a", "b", "c"]
CALLS, CALLS_OF_LONG_FORM = 120, 500
"""Of each session that adds."""
LEVELS = ["read committed", "read committed", "repeatable read", "serializable"]


class Ledger:
    """What became of the events. A payload is the array of the numbers of the events that led to it."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.added: list[int] = []
        self.ran: list[int] = []
        self.removed: list[int] = []
        self.left: list[int] = []
        """In jobs that have failed for good, or had a successor when they did not succeed."""

    def numbers(self, count: int) -> list[int]:
        with self._lock:
            return list(itertools.islice(self._numbers, count))

    def note(self, where: list[int], payloads: list[str]) -> None:
        with self._lock:
            where.extend(number for payload in payloads for number in json.loads(payload))


def retrying(session: Queue, call: Callable[[], list[Row]], chance: random.Random) -> list[Row]:
    """Make a call in a transaction of some isolation level, as often as it fails for reasons of that."""
    while True:
        try:
            with session.conn.transaction():
                session.run(f"set transaction isolation level {chance.choice(LEVELS)}")
                return call()
        except psycopg.errors.SerializationFailure:
            continue


def add_and_remove(session: Queue, ledger: Ledger, seed: int, calls: int) -> None:
    chance = random.Random(seed)
    for _ in range(calls):
        kind = chance.choice(["add", "add", "add", "bulk", "bulk", "remove"])
        keys = chance.sample(KEYS, len(KEYS)) if kind == "bulk" else [chance.choice(KEYS)]
        if kind == "remove":
            rows = retrying(session, lambda: session.rows("select * from {gw}.remove_job(%s)", keys[0]), chance)  # noqa: B023
            ledger.note(ledger.removed, [row["payload"] for row in rows if row["id"] and not row["locked_at"]])
            continue
        payloads = [json.dumps([number]) for number in ledger.numbers(len(keys))]
        specs = [{"job_key": key, "payload": payload} for key, payload in zip(keys, payloads, strict=True)]
        if kind == "bulk":
            preserve = chance.random() < 0.5
            rows = retrying(session, lambda: session.add_jobs(*specs, job_key_preserve_run_at=preserve), chance)  # noqa: B023
        else:
            mode = chance.choice(["replace", "preserve_run_at"])
            rows = retrying(session, lambda: [session.add_job(**specs[0], job_key_mode=mode)], chance)  # noqa: B023
        assert [row["key"] for row in rows] == keys
        assert all(map(is_real, rows))
        ledger.note(ledger.added, payloads)


def work(session: Queue, ledger: Ledger, name: str, seed: int, done: threading.Event) -> None:
    chance = random.Random(seed)
    while not done.is_set():
        claims = session.claim(worker=name, limit=chance.randint(1, 3))
        chance.shuffle(claims)
        outcomes = {claim["id"]: chance.choice(["success", "success", "return", "retry", "fail"]) for claim in claims}
        finish = chance.choice((session.finish, session.finish_as_workers_do))
        states = finish(
            *({**claim, "outcome": outcomes[claim["id"]], "delay": 0.0, "had_key": True} for claim in claims),
            worker=name,
        )
        while busy := [claim for claim in claims if states[claim["id"]] == "busy"]:
            states |= session.finish(
                *({**claim, "outcome": outcomes[claim["id"]], "delay": 0.0, "had_key": True} for claim in busy),
                worker=name,
            )
        assert states.keys() == outcomes.keys()
        for claim in claims:
            if states[claim["id"]] == "deleted":
                ledger.note(ledger.ran, [claim["payload"]])


def test_whatever_sessions_do_at_once_no_event_is_lost_and_none_runs_twice(queue: Queue, long_form: bool) -> None:
    calls = CALLS_OF_LONG_FORM if long_form else CALLS
    register(queue)
    ledger, done = Ledger(), threading.Event()
    with (
        queue.another() as first,
        queue.another() as second,
        queue.another() as third,
        queue.another() as fourth,
        queue.another() as fifth,
    ):
        workers = [
            Background(lambda: work(first, ledger, "one", 1, done)),
            Background(lambda: work(second, ledger, "two", 2, done)),
        ]
        adders = [
            Background(functools.partial(add_and_remove, session, ledger, seed, calls))
            for seed, session in enumerate([third, fourth, fifth])
        ]
        for adder in adders:
            adder.result(timeout=120)
        done.set()
        for worker in workers:
            worker.result()
    ledger.ran.extend(itertools.chain.from_iterable(drain(queue)))
    ledger.note(ledger.left, queue.values("select payload::text from {gw}._private_jobs"))

    assert count_locked(queue) == 0
    assert len(ledger.ran) > calls
    assert Counter(ledger.ran + ledger.removed + ledger.left) == Counter(ledger.added)
