"""The local queue, and the loop that keeps it filled.

States of the claimer:

    waiting    nothing was left to claim when it last looked, or there is no room; it sleeps until somebody calls
               `look_again` (the supervisor's wake-up, a queue that was unlocked) or room appears
    claiming   one claim is under way; there is never more than one
    suspended  it claims nothing for now; jobs that a late answer brings go straight back
    stopped    the same for good

A claim asks for as many jobs as there are free slots, and for some ahead if jobs are short: as many as this process
starts within `_AHEAD_SECONDS`, judging by how long the last ones took. So slots never wait for the database, and
long jobs are never hoarded while another process could run them. Where long jobs have taken all slots and short ones
wait behind them, what waits goes back after `_PATIENCE_SECONDS` without the end of any, and nothing is claimed ahead
until one has ended.

Where it takes long to look everywhere, most claims look only near the marks that earlier ones have left (see `Marks`).
What such a claim does not see is found by a full look, which follows in time also if there was nothing near.

A named queue whose job has succeeded is not unlocked and claimed from again: the statement that ends the job takes the
next one (`advance`), for as long as the queue's turn lasts.

Whenever the answer to a claim is lost, jobs may be locked for this worker that it does not know of. Before the next
claim everything locked by it and not known here is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pgtasks.errors import DatabaseUnavailableError
from pgtasks.job import OutcomeKind
from pgtasks.queue.claim import claim_jobs
from pgtasks.queue.finish import advance_queues, release_worker
from pgtasks.queue.workers import is_evicted
from pgtasks.worker.link import Backoff
from pgtasks.worker.marks import Marks
from pgtasks.worker.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgtasks.database import Operation
    from pgtasks.job import Completion, Job
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.planning import Planner

T = TypeVar("T")
_AHEAD_SECONDS = 0.02
_PATIENCE_SECONDS = 0.1
_MOST_AHEAD = 1000
_RECHECK_SECONDS = 60.0
"""How long after a lost answer to look once more for jobs that it may have locked: its statement may have run on."""
_RECONCILE_SECONDS = (90.0, 150.0)
"""How often to look for such jobs although no answer was lost: a database that was restored, or failed over to a
standby that lagged, may hold a claim that has long ended here."""
_BUSY_SECONDS = 1.0
"""How long to leave a job alone that is to be given back and whose row somebody's open transaction has locked."""


class Claimer:
    """Claims jobs into `queue`, as many as there is room for.

    Args:
        link: the database.
        planner: says what each claim asks for.
        concurrency: slots of this process.
        free_slots: how many of them have no job.
        handed_over: how many jobs from the queue were handed over without a slot.
        known_ids: ids of all jobs that the process holds, apart from those in the queue.
        on_change: called after each claim, and before it, so that the process can publish its state.
        on_answer: called when a claim was answered, or could not be since the database is away or refuses it.
        on_full: called when a claim brought all that was asked for.
        on_claimed: called with what a claim has brought, or None.
        on_stuck: called when jobs wait that cannot be started soon; whoever is, gives back what it takes back.
        give_back: takes jobs that came too late.
        register: makes the worker known, before its first claim.
        on_evicted: called when a claim was refused since somebody has retired the worker.
    """

    def __init__(
        self,
        link: DatabaseLink,
        *,
        planner: Planner,
        concurrency: int,
        free_slots: Callable[[], int],
        handed_over: Callable[[], int],
        known_ids: Callable[[], list[int]],
        on_change: Callable[[], None],
        on_answer: Callable[[], None],
        on_full: Callable[[], None],
        on_claimed: Callable[..., None] | None,
        on_stuck: Callable[[], None],
        give_back: Callable[[list[Job]], None],
        register: Operation[None],
        on_evicted: Callable[[], None],
    ) -> None:
        self.queue: deque[Job] = deque()
        self.started_claims = 0
        self._link = link
        self._planner = planner
        self._concurrency = concurrency
        self._free_slots = free_slots
        self._handed_over = handed_over
        self._known_ids = known_ids
        self._on_change = on_change
        self._on_answer = on_answer
        self._on_full = on_full
        self._on_claimed = on_claimed
        self._on_stuck = on_stuck
        self._give_back = give_back
        self._register = register
        self._registered_with = 0
        self._on_evicted = on_evicted
        self._suspended = False
        self._backoff = Backoff()
        self._marks = Marks()
        self._full_look: asyncio.TimerHandle | None = None
        self._narrow_look: asyncio.TimerHandle | None = None
        self._asking_plugins: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._exhausted = False
        self._claiming = False
        self._stopping = asyncio.Event()
        self._mean_seconds: float | None = None
        self._moved_at = 0.0
        self._stuck = False
        self._patience: asyncio.TimerHandle | None = None
        self._turns = Turns()
        self._advancing = asyncio.Lock()
        """Held while queues are advanced, or what is not known here is given back: the one must not undo the other."""
        self._answer_lost = False
        self._recheck_at: float | None = None
        self._reconcile_at = _next_reconciliation()

    @property
    def waiting(self) -> bool:
        """Whether it has found nothing more to claim and is not looking."""
        return self._exhausted and not self._claiming and not self._wanted.is_set()

    @property
    def narrowed(self) -> bool:
        """Whether plugins have the last claim leave something out."""
        return self._planner.pause is not None

    @property
    def closed(self) -> bool:
        """Whether plugins want it to claim nothing for now."""
        return self._planner.closed

    @property
    def unsure(self) -> bool:
        """Whether jobs may be locked for this worker that it does not know of."""
        return self._answer_lost or self._recheck_at is not None

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way."""
        return self._claiming

    def look_again(self) -> None:
        """Look for jobs, even if there were none a moment ago."""
        self._exhausted = False
        self._wanted.set()

    def ended(self, completions: Sequence[Completion]) -> None:
        """Learn from jobs that have ended how long they take, and use the room that they left."""
        mean = sum(completion.seconds for completion in completions) / len(completions)
        if self._mean_seconds is None:
            self._mean_seconds = mean
        else:
            self._mean_seconds += min(0.5, 0.1 * len(completions)) * (mean - self._mean_seconds)
        self._moved_at = time.monotonic()
        self._stuck = False
        self.use_room()

    def use_room(self) -> None:
        """Claim more if there was more: jobs have left, by running or without."""
        if not self._exhausted:
            self._wanted.set()

    def stop(self) -> list[Job]:
        """Claim nothing more; returns the jobs that were waiting in the queue."""
        self._stopping.set()
        return self.take_back()

    def take_back(self) -> list[Job]:
        """Return the jobs that are waiting in the queue."""
        left = list(self.queue)
        self.queue.clear()
        return left

    def withdraw(self, claims: Collection[tuple[int, int]]) -> list[Job]:
        """Return those of these jobs that are waiting in the queue."""
        withdrawn = [job for job in self.queue if (job.id, job.locked_micros) in claims]
        if withdrawn:
            kept = [job for job in self.take_back() if (job.id, job.locked_micros) not in claims]
            self.queue.extend(kept)
        return withdrawn

    def suspend(self) -> list[Job]:
        """Claim nothing until `resume` is called; returns the jobs that were waiting in the queue."""
        self._suspended = True
        return self.take_back()

    def resume(self) -> None:
        """Claim again."""
        self._suspended = False
        self.look_again()

    def goes_on(self, completion: Completion) -> bool:
        """Whether `advance` is to end this job, so that its queue stays with this process."""
        if self._suspended or self._stopping.is_set():
            if completion.job.queue is not None:
                self._turns.end(completion.job.queue)
            return False
        if completion.job.queue in self._planner.current.forbidden_queues:
            self._turns.end(completion.job.queue or "")
            return False
        return self._turns.goes_on(completion, time.monotonic(), self._marks.pause)

    async def advance(self, completions: Sequence[Completion]) -> set[int] | None:
        """End jobs that have succeeded, and take the next one of each of their queues.

        Returns:
            The ids of those that were ended; None if it is not known whether any was.
        """
        link = self._link
        async with self._advancing:
            try:
                plan = self._planner.current
                advanced = await self._ask_for_jobs(
                    advance_queues(link.statements, link.worker_id, plan.tasks, list(plan.forbidden_flags), completions)
                )
            except Exception as error:
                if not (is_evicted(error) or self._link.forgives(error, "advance_queues")):
                    raise
                advanced = None  # who has called ends the jobs in the usual way
                self.look_again()
            jobs = advanced.jobs if advanced is not None else []
            if jobs and self._on_claimed is not None:
                self._on_claimed(jobs=jobs)
            for queue in {completion.job.queue for completion in completions}.difference(job.queue for job in jobs):
                if queue is not None:
                    self._turns.end(queue)
            if self._suspended or self._stopping.is_set():
                self._give_back(jobs)
            else:
                self.queue.extend(jobs)
                self._be_patient()
        self._on_change()
        return advanced.ended if advanced is not None else None

    def written(self, completions: Sequence[Completion]) -> None:
        """Look for jobs if a named queue was unlocked: its next one is runnable now, of which nobody sends word.

        What was given back lies behind the marks, and what comes after it must not be taken before it.
        """
        if any(completion.outcome.kind is OutcomeKind.RETURN for completion in completions):
            self._marks.forget()
        for completion in completions:
            queue = completion.job.queue
            if queue is not None and queue not in self._turns:
                self.look_again()
                return

    async def run(self) -> None:
        """Claim when there is room, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while not (self._exhausted or self._suspended or self._stopping.is_set()):
                free = max(0, self._free_slots() - self._backlog())
                limit = self._limit(free)
                # What may be locked unknown to us goes back even if there is room for no job.
                if (limit == 0 and not self._is_release_due()) or not await self._claim(limit, free):
                    break

    def _backlog(self) -> int:
        return len(self.queue) + self._handed_over()

    def _limit(self, free: int) -> int:
        seconds = math.inf if self._mean_seconds is None else max(self._mean_seconds, 1e-6)
        most_ahead = 0 if self._stuck else min(_MOST_AHEAD, int(self._concurrency * _AHEAD_SECONDS / seconds))
        waiting = max(0, self._backlog() - self._free_slots())
        ahead = most_ahead - waiting
        # A little room ahead is not worth a statement; wait until half of it is empty, unless a slot stands free.
        if free == 0 and ahead * 2 < most_ahead:
            return 0
        return free + max(0, ahead)

    async def _claim(self, limit: int, free: int) -> bool:
        """Claim once; returns whether that brought any job."""
        self._claiming = True
        self._wanted.clear()
        self.started_claims += 1
        self._on_change()
        try:
            jobs, full = await self._ask(limit, free)
        except Exception as error:
            if is_evicted(error):
                self._claiming = False
                self._stopping.set()
                self._on_evicted()
                return False
            if not self._link.forgives(error, "claim_jobs"):
                raise
            self._wanted.set()
            self._claiming = False
            self._on_answer()
            self._on_change()
            await self._pause()
            return False
        self._claiming = False
        self._backoff.reset()
        self._on_answer()
        if self._suspended or self._stopping.is_set():
            self._give_back(jobs)
        else:
            self.queue.extend(self._startable(jobs, free))
            self._be_patient()
        # A job on its last attempt is claimed only into a free slot, so an empty answer means "nothing left" only if
        # a slot was free; and not if somebody asked to look again meanwhile: the claim may not have seen what came.
        self._exhausted = not jobs and free > 0 and not self._wanted.is_set()
        if self._exhausted and not full:
            self._look_fully_when_due()
        if self._exhausted and self._planner.pause is not None:
            self._look_when_plugins_may_let_more_in(self._planner.pause)
        if jobs:
            if len(jobs) == limit:
                self._on_full()
            if self._on_claimed is not None:
                self._on_claimed(jobs=jobs)
        self._on_change()
        return bool(jobs)

    def _startable(self, jobs: list[Job], free: int) -> list[Job]:
        """Give back what is on its last attempt and has no slot, if `advance` has filled some of the `free` ones."""
        room = max(0, self._free_slots() - self._backlog())
        if room >= min(free, len(jobs)):
            return jobs
        rest = jobs[room:]
        self._give_back([job for job in rest if job.attempts >= job.max_attempts])
        return jobs[:room] + [job for job in rest if job.attempts < job.max_attempts]

    def _be_patient(self) -> None:
        if self._patience is None and self.queue:
            self._moved_at = time.monotonic()
            self._patience = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        if not self._backlog():
            return
        still = time.monotonic() - self._moved_at
        if still >= _PATIENCE_SECONDS and not self._free_slots():
            self._stuck = True
            self._on_stuck()
            return
        # With slots free, it is something else that keeps jobs from being started.
        pause = _PATIENCE_SECONDS - still if still < _PATIENCE_SECONDS else _PATIENCE_SECONDS
        self._patience = asyncio.get_running_loop().call_later(pause, self._lose_patience)

    def _look_fully_when_due(self) -> None:
        if self._full_look is not None:
            self._full_look.cancel()
        pause = max(0.0, self._marks.full_at - time.monotonic())
        self._full_look = asyncio.get_running_loop().call_later(pause, self.look_again)

    def _look_when_plugins_may_let_more_in(self, pause: float) -> None:
        if self._narrow_look is not None:
            self._narrow_look.cancel()
        self._narrow_look = asyncio.get_running_loop().call_later(pause, self._ask_plugins_again)

    def _ask_plugins_again(self) -> None:
        self._asking_plugins = asyncio.get_running_loop().create_task(self._look_if_plugins_let_more_in())

    async def _look_if_plugins_let_more_in(self) -> None:
        if await self._planner.may_let_more_in():
            self.look_again()
        elif self._planner.pause is not None:
            self._look_when_plugins_may_let_more_in(self._planner.pause)

    async def _ask(self, limit: int, free: int) -> tuple[list[Job], bool]:
        """Return what a claim brings, and whether it was a full look."""
        # A new connection may lead to a server that has taken over from another, and never heard of this worker.
        connections = self._link.database.connections_made
        if self._registered_with != connections or not connections:
            await self._link.attempt(self._register)
            self._registered_with = connections
        if self._is_release_due() or time.monotonic() > self._reconcile_at:
            await self._release_unknown()
            self._reconcile_at = _next_reconciliation()
        if limit == 0:
            return [], True
        plan = await self._planner.plan(limit, free)
        if self._planner.changed:
            self._marks.forget()
        if plan.limit == 0 or not plan.tasks or self._suspended or self._stopping.is_set():
            return [], True
        near = self._marks.near(time.monotonic())
        operation = claim_jobs(
            self._link.statements,
            self._link.worker_id,
            plan.tasks,
            list(plan.forbidden_flags),
            plan.limit,
            free,
            near,
            list(plan.forbidden_queues),
        )
        claimed = await self._ask_for_jobs(operation)
        self._marks.looked(claimed, time.monotonic(), full=near is None)
        return claimed.jobs, near is None

    def _is_release_due(self) -> bool:
        return self._answer_lost or (self._recheck_at is not None and time.monotonic() >= self._recheck_at)

    async def _ask_for_jobs(self, operation: Operation[T]) -> T:
        try:
            return await self._link.attempt(operation)
        except DatabaseUnavailableError:
            raise  # there was no connection to ask on
        except BaseException:
            self._answer_lost = True
            raise

    async def _pause(self) -> None:
        """Wait before the next try, but no longer than until the claimer is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next_pause()):
                await self._stopping.wait()

    async def _release_unknown(self) -> None:
        async with self._advancing:
            known = [job.id for job in self.queue] + self._known_ids()
            released = await self._link.attempt(release_worker(self._link.statements, self._link.worker_id, known))
            if released.claiming:
                raise TimeoutError("a claim whose answer was lost is still being executed")
            # A statement that had not even reached the server may come after this.
            pause = _BUSY_SECONDS if released.busy else _RECHECK_SECONDS if self._answer_lost else None
            self._recheck_at = None
            if pause is not None:
                self._recheck_at = time.monotonic() + pause
                asyncio.get_running_loop().call_later(pause, self.look_again)
            self._answer_lost = False


def _next_reconciliation() -> float:
    return time.monotonic() + random.uniform(*_RECONCILE_SECONDS)  # noqa: S311 - jitter
