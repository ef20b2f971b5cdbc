"""Processes, supervisors and whole hosts that are killed or stopped under load."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.faults.arena import LONG_FORM
from tests.faults.hosts import QUICK
from tests.worker.conftest import alive, prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.arena import Arena


def test_a_process_that_is_killed_again_and_again(arena: Arena, times: Callable[[int, int], int]) -> None:
    arena.book(times(20, 300))
    host = arena.start()
    host.wait_for("worker_ready")
    for _ in range(times(4, 20)):
        arena.keep_busy(200, seconds=0.03)
        arena.touch()
        arena.some_runs()
        victim = arena.rng.choice(list(living := host.living()))
        held = arena.held_by(living[victim])
        began = time.monotonic()
        host.kill_process(victim)
        host.wait_for("jobs_recovered", worker=living[victim])
        arena.measure("process killed: its jobs are recovered", time.monotonic() - began)
        charged = {record["job_id"] for record in host.records() if f"(pid {victim})" in record.get("error", "")}
        arena.wait(lambda seen=living: host.living().keys() - seen, "another process")  # type: ignore[misc]
        [successor] = host.living().keys() - living
        arena.time_of_run(began, "process killed: another runs jobs in its place", pids={successor})
        if waiting := held - charged - arena.ledger.jobs_of(victim):
            arena.time_of_run(began, "process killed: a job that it had claimed runs elsewhere", jobs=waiting)
    outcome = arena.finish()
    assert len(outcome.story.faults) == times(4, 20)


def test_effects_are_exact_whenever_in_its_transaction_a_process_dies(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    enough = times(10, 1000)
    began = time.monotonic()
    # Processes that die soon after their start are made up for after growing pauses, which would take an hour in all.
    hasty = prepared("import pgtasks.worker.fleet as f; f._SETTLED_SECONDS = 0") if LONG_FORM else ()
    host = arena.start("--processes", "4", "--concurrency", "2", before=hasty)

    def died() -> bool:
        if arena.unfinished() < times(1, 20):
            arena.pay(times(10, 200))
        return len(arena.ledger.deaths()) >= enough

    arena.wait(died, f"the deaths of {enough} processes")
    arena.finish()
    arena.measure(f"{enough} processes die in transactions: all jobs have ended", time.monotonic() - began)
    deaths = arena.ledger.deaths()
    print(f"{len(arena.jobs)} jobs; processes that died: {Counter(when for _, when in deaths)}")
    assert sorted(arena.rows("select job_id from booked")) == [(job,) for job in sorted(arena.jobs)]
    # The last one may have died after its job was done, and is logged a moment later.
    arena.wait(
        lambda: len(host.records("process_exited", status="killed by SIGKILL")) == len(deaths), "the log of each death"
    )
    # That the instants are what they are called: after these, the job has not run again.
    over = [place for place, (_, when) in enumerate(deaths) if when in ("committing", "committed")]
    assert all(job != deaths[place][0] for place in over for job, _ in deaths[place + 1 :])


def test_a_supervisor_that_is_killed_takes_its_processes_with_it(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    for _ in range(times(2, 5)):
        arena.keep_busy(200)
        host = arena.start()
        host.wait_for("worker_ready")
        arena.some_runs()
        pids = host.process_ids()
        began = time.monotonic()
        host.kill_supervisor()
        arena.wait(lambda pids=pids: not any(map(alive, pids)), "the end of its processes")  # type: ignore[misc]
        arena.measure("supervisor killed: its processes are gone", time.monotonic() - began)
        assert arena.locked() == []
    arena.start()
    assert arena.finish().interruptions == {}


def test_a_host_that_is_lost_is_taken_over_by_another(arena: Arena, times: Callable[[int, int], int]) -> None:
    survivor = arena.start(env=QUICK)
    for _ in range(times(1, 5)):
        doomed = arena.start(env=QUICK)
        doomed.wait_for("worker_ready")
        survivor.wait_for("worker_ready")
        arena.book(20)
        # Long jobs, so that some run at any time in each host.
        arena.keep_busy(100, seconds=0.2)
        arena.some_runs()
        workers = doomed.living()
        arena.wait(lambda held=workers: any(map(arena.held_by, held.values())), "jobs there")  # type: ignore[misc]
        began = time.monotonic()
        doomed.lose()
        held = set().union(*map(arena.held_by, workers.values()))
        if held:
            arena.time_of_run(began, "host lost: one of its jobs runs elsewhere", jobs=held, pids=survivor.living())
    outcome = arena.finish()
    assert outcome.interruptions
    assert all(record["failed"] == 0 for record in survivor.records("worker_lost"))


def test_a_process_that_was_stopped_for_too_long_finishes_nothing_afterwards(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    host = arena.start(env=QUICK)
    host.wait_for("worker_ready")
    for _ in range(times(1, 2)):
        arena.keep_busy(100, seconds=0.2)
        arena.some_runs()
        victim = arena.rng.choice(list(living := host.living()))
        arena.wait(lambda worker=living[victim]: arena.held_by(worker), "jobs there")  # type: ignore[misc]
        host.stop_process(victim)
        began = time.monotonic()
        host.wait_for("worker_lost", worker=living[victim])
        arena.measure("process stopped: its jobs are given to others", time.monotonic() - began)
        os.kill(victim, signal.SIGCONT)
        host.wait_for("process_exited", pid=victim)
    arena.finish()
    assert host.records("job_lost")
