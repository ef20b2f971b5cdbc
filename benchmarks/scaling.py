"""What more processes and more slots bring, on jobs that wait for 10 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import TROUBLE, from_values

if TYPE_CHECKING:
    from benchmarks.suite import Suite

PROCESSES = (1, 2, 4, 8)
SLOTS = (10, 50)
SECONDS = 1.5  # that the jobs of a round would take ideally
WORK = 0.01  # seconds that a job waits
GROUP = "scaling, jobs of 10 ms"


def measure(suite: Suite) -> None:
    """Compare each with what its slots could do if nothing but the jobs took time."""
    for task, kind in (("sleep_10ms", "plain function"), ("sleep_10ms_async", "async def")):
        for processes in PROCESSES:
            for slots in SLOTS:
                _measure(suite, task, kind, processes, slots)


def _measure(suite: Suite, task: str, kind: str, processes: int, slots: int) -> None:
    ideal = processes * slots / WORK
    jobs = max(5 * processes * slots, min(suite.jobs, int(ideal * SECONDS)))
    plural = "process" if processes == 1 else "processes"
    title = f"{processes} {plural}, {slots} slots each, {kind}"
    try:
        values = []
        for _ in range(suite.rounds):
            suite.queue.fill(jobs, task)
            values.append(suite.queue.throughput(processes=processes, slots=slots))
    except TROUBLE as error:
        suite.fail(f"scaling | {title}", error)
        return
    suite.report(
        from_values(
            values,
            group=GROUP,
            title=title,
            unit="jobs/s",
            references={"the ideal": ideal},
            at={"processes": processes, "slots": slots, "kind": kind},
        )
    )
