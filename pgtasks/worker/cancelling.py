"""Stopping jobs that somebody has cancelled: how word of it reaches the process that holds them.

The database says which of a worker's jobs are cancelled, and whoever wants to know asks it: word itself is only a hint,
which may be lost or come twice. A supervisor gets it by notification and with the answer to each heartbeat. Then it
notes when the grace of each job will be over (`deadlines` kills the process after that, whatever state that is in), and
tells the processes. A process ends what it has only claimed, and asks what runs to stop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgtasks.errors import JobCancelledError
from pgtasks.job import Completion, Outcome, OutcomeKind
from pgtasks.queue.cancel import find_cancellations
from pgtasks.worker.protocol import ToWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgtasks.job import Job
    from pgtasks.queue.cancel import Pending
    from pgtasks.worker.executor import Executor
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.member import Member

_AGAIN_SECONDS = 0.2
"""When to look once more for a job that is locked for this process and not here: the answer to its claim is on its way,
or plugins are being asked about it. If it comes later, the next heartbeat tells of it."""


class CancellationWatch:
    """Looks, when somebody says so, which jobs of this host's processes are cancelled, and tells these processes.

    Args:
        link: the database.
        members: the processes.
    """

    def __init__(self, link: DatabaseLink, members: Callable[[], Collection[Member]]) -> None:
        self._link = link
        self._members = members
        self._wanted = asyncio.Event()

    def look(self, worker_ids: Collection[str]) -> None:
        """Look soon, if any of these workers is one of ours."""
        if any(member.worker_id in worker_ids for member in self._members()):
            self._wanted.set()

    async def run(self) -> None:
        """Look when it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            members = {member.worker_id: member for member in self._members()}
            with self._link.forgiving("find_cancellations"):  # otherwise a heartbeat tells of it again
                pending = await self._link.attempt(find_cancellations(self._link.statements, list(members)))
                now = time.monotonic()
                for worker_id, member in members.items():
                    _note(member, [one for one in pending if one.worker_id == worker_id], now)


def _note(member: Member, pending: Sequence[Pending], now: float) -> None:
    """Note by when a process has to have stopped jobs, counted from when we have first heard of each, and tell it."""
    member.cancelled = {
        one.token: member.cancelled.get(one.token, now + member.generation.grace_of(one.task)) for one in pending
    }
    if pending:
        member.tell(ToWorker.CANCEL)


class Cancelling:
    """Stops those jobs of a process that somebody has cancelled.

    Args:
        link: the database.
        executor: what runs jobs.
        withdraw: takes back jobs that have not been started.
        give_up: takes the ends of those.
    """

    def __init__(
        self,
        link: DatabaseLink,
        executor: Executor,
        withdraw: Callable[[Collection[tuple[int, int]]], list[Job]],
        give_up: Callable[[list[Completion]], None],
    ) -> None:
        self._link = link
        self._executor = executor
        self._withdraw = withdraw
        self._give_up = give_up
        self._looking: asyncio.Task[None] | None = None
        self._again = False

    def look(self) -> None:
        """Ask the database which jobs are cancelled, and stop them."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="cancelling")
            self._looking.add_done_callback(self._looked)
        else:
            self._again = True  # what is being asked may not see what this call is about

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.result()
        if self._again:
            self._again = False
            self.look()

    async def _look(self) -> None:
        with self._link.forgiving("find_cancellations"):
            if await self._stop():
                await asyncio.sleep(_AGAIN_SECONDS)
                await self._stop()

    async def _stop(self) -> bool:
        """Stop what is cancelled; returns whether some of it is not here."""
        pending = await self._link.attempt(find_cancellations(self._link.statements, [self._link.worker_id]))
        errors = {one.token: JobCancelledError(one.reason or "cancelled") for one in pending}
        if not errors:
            return False
        ended = [
            Completion(job, Outcome(OutcomeKind.CANCEL, str(errors[job.id, job.locked_micros])), ran=False)
            for job in self._withdraw(errors)
        ]
        if ended:
            self._give_up(ended)
        return len(ended) + len(self._executor.cancel(errors)) < len(errors)
