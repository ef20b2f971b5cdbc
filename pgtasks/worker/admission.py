"""Asking plugins about jobs right before they start: `admit_jobs` and `resolve_task`.

Jobs wait here while plugins are asked, and then until they have a slot. Never more are asked about than there are free
slots, so that what is admitted starts at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.errors import PluginError
from pgtasks.flow import Cancel, Fail, Snooze
from pgtasks.job import RETURN, Completion, Outcome
from pgtasks.tasks import Task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from pgtasks.job import Job
    from pgtasks.plugins import LoopDispatch
    from pgtasks.tasks import AnyTask


class Admission:
    """Asks about jobs, a batch at a time.

    Args:
        hooks: who asks plugins.
        loop: where.
        on_answer: called when jobs can be started, or have been refused.
        give_up: takes the ends of jobs that do not start.
        on_failure: called when a plugin that must not be passed over has not answered, before its jobs go back.
    """

    def __init__(
        self,
        hooks: LoopDispatch,
        loop: asyncio.AbstractEventLoop,
        on_answer: Callable[[], None],
        give_up: Callable[[list[Completion]], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.active = hooks.has("admit_jobs") or hooks.has("resolve_task")
        """Whether any plugin wants to be asked."""
        self._hooks = hooks
        self._loop = loop
        self._on_answer = on_answer
        self._give_up = give_up
        self._on_failure = on_failure
        self._asked: dict[int, Job] = {}
        self._admitted: deque[tuple[Job, AnyTask | None]] = deque()
        self._round = 0
        """Goes on whenever all is taken back."""
        self._resolves = hooks.has("resolve_task")
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many jobs are here."""
        return len(self._asked) + len(self._admitted)

    @property
    def ids(self) -> list[int]:
        """Their ids."""
        return [*self._asked, *(job.id for job, _ in self._admitted)]

    def ask(self, jobs: list[Job]) -> None:
        """Ask about jobs; those that may start are then to be had by `next`."""
        self._asked.update({job.id: job for job in jobs})
        task = self._loop.create_task(self._ask(jobs), name="admission")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next(self) -> tuple[Job, AnyTask | None] | None:
        """Take the next job that may start, and the task that is to run it if that is not the registered one."""
        return self._admitted.popleft() if self._admitted else None

    def take_back(self) -> list[Job]:
        """Return what may start and has not; what is being asked about goes back when plugins have answered."""
        self._round += 1
        left = [job for job, _ in self._admitted]
        self._admitted.clear()
        return left

    def withdraw(self, claims: Collection[tuple[int, int]]) -> list[Job]:
        """Return those of these jobs that may start and have not; what is being asked about is not among them."""
        withdrawn = [job for job, _ in self._admitted if (job.id, job.locked_micros) in claims]
        if withdrawn:
            kept = [(job, task) for job, task in self._admitted if (job.id, job.locked_micros) not in claims]
            self._admitted = deque(kept)
        return withdrawn

    async def _ask(self, jobs: list[Job]) -> None:
        began_in = self._round
        ends: list[Completion] = []
        admitted: list[tuple[Job, AnyTask | None]] = []
        try:
            left = jobs
            for ask in self._hooks.askers("admit_jobs", read_refusals):
                refusals = await ask(jobs=left) or {}
                ends += [Completion(job, _outcome(refusals[job.id]), ran=False) for job in left if job.id in refusals]
                left = [job for job in left if job.id not in refusals]
                if not left:
                    break
            admitted = [(job, await self._resolve(job)) for job in left]
        except PluginError:  # which is logged
            ends += [Completion(job, RETURN, ran=False) for job in left]
            self._on_failure()
        finally:
            for job in jobs:
                self._asked.pop(job.id, None)
        if began_in == self._round:
            self._admitted.extend(admitted)
        else:
            ends += [Completion(job, RETURN, ran=False) for job, _ in admitted]
        if ends:
            self._give_up(ends)
        self._on_answer()

    async def _resolve(self, job: Job) -> AnyTask | None:
        return await self._hooks.decide_async("resolve_task", read_task, job=job) if self._resolves else None


def _outcome(refusal: Snooze | Cancel | Fail) -> Outcome:
    # With another `run_at` it would come after what waits behind it in its queue.
    at_once = isinstance(refusal, Snooze) and refusal.run_at is None and not refusal.delay
    return RETURN if at_once else refusal.outcome()


def read_refusals(answer: Any) -> Mapping[int, Snooze | Cancel | Fail]:
    """Return a plugin's answer to `admit_jobs`, or raise."""
    if not isinstance(answer, Mapping):
        raise TypeError("it must be a mapping of job ids")
    for refusal in answer.values():
        if not isinstance(refusal, Snooze | Cancel | Fail):
            raise TypeError(f"a job can get Snooze, Cancel or Fail, not {type(refusal).__name__}")
    return dict(answer)  # the plugin may go on with its own


def read_task(answer: Any) -> AnyTask:
    """Return a plugin's answer to `resolve_task`, or raise."""
    if not isinstance(answer, Task):
        raise TypeError("it must be a task, as @task makes them")
    return answer
