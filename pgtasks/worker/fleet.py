"""The worker processes of a host: as many as are wanted, each replaced when it ends, and in turn when asked.

States of a process:

    starting   forked, until it says that it is ready
    working    it claims jobs
    leaving    told to drain, since it has a successor or is one too many; its end needs no replacement

A successor is started while its predecessor works on, and the predecessor is told to leave once the successor is ready.
So replacing takes nothing from the throughput. There is one succession at a time.

All processes that are started come from the current generation, one import of the application. To roll is to put
another in its place and to have all processes of the older one succeeded. Until a process of the new one was ready, the
older one is kept: if none gets ready, it is the current one again, and nothing has changed.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks.errors import CrashLoopError, PgtasksError
from pgtasks.logs import get_logger
from pgtasks.worker.generation import Generations
from pgtasks.worker.link import Backoff
from pgtasks.worker.member import Member, new_member
from pgtasks.worker.protocol import Exit, ToWorker, describe_status
from pgtasks.worker.recovery import Death
from pgtasks.worker.zygotes import SpawnRefusedError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Coroutine

    from pgtasks.worker.generation import Generation
    from pgtasks.worker.host_hooks import HostHooks

log = get_logger("pgtasks.worker")

_MOST_EARLY_DEATHS = 5
"""So many processes in a row that die before they claim jobs are a crash loop."""
_SETTLED_SECONDS = 10.0
"""A process that has lived so long was no failed start; the next one is started without much of a pause."""
_READY_SECONDS = 60.0
"""A process that is not ready after so long never will be. A claim, whose answer makes it ready, may take 40."""
_END_SECONDS = 5.0
"""How long a process may take from closing its socket to its end."""


class Fleet:
    """Starts, replaces and stops worker processes, and reports what they say and how they end.

    Args:
        generation: where processes come from.
        host_id: from which the workers' ids are made.
        do: runs a coroutine beside the rest.
        on_message: called with the bytes that a process has sent.
        on_death: called for each process that has left jobs behind.
        on_change: called when a process has become ready or is gone.
        on_failure: called when no process can be kept alive.
        hooks: those of plugins.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        host_id: str,
        do: Callable[[Coroutine[Any, Any, None], str], None],
        on_message: Callable[[Member, bytes], None],
        on_death: Callable[[Death], None],
        on_change: Callable[[], None],
        on_failure: Callable[[PgtasksError], None],
        hooks: HostHooks,
    ) -> None:
        self._hooks = hooks
        self._generations = Generations(generation, do)
        self._rolled: asyncio.Future[bool] | None = None
        self._host_id = host_id
        self._do = do
        self._on_message = on_message
        self._on_death = on_death
        self._on_change = on_change
        self._on_failure = on_failure
        self._wanted = 0
        self._serial = 0
        self._members: dict[str, Member] = {}
        self._pausing = 0
        self._to_succeed: deque[Member] = deque()
        self._early_deaths = 0
        self._stopping = self._killing = False

    @property
    def wanted(self) -> int:
        """How many processes there are to be."""
        return self._wanted

    @property
    def members(self) -> Collection[Member]:
        """All processes that there are, those that are leaving too."""
        return self._members.values()

    @property
    def ready(self) -> int:
        """How many processes take jobs."""
        return sum(member.ready and not (member.leaving or member.gone) for member in self.members)

    @property
    def complete(self) -> bool:
        """Whether as many processes work as are wanted, and no other is left."""
        return len(self._members) == self._wanted and all(member.ready for member in self.members)

    # Growing, shrinking, replacing

    def start(self, processes: int) -> None:
        """Start so many processes, in the running event loop."""
        self._attach(self._generations.current)
        self.resize(processes)

    def resize(self, processes: int) -> int:
        """Have so many processes from now on, as far as there is room for them; returns how many."""
        self._wanted = max(1, min(processes, self._generations.current.most_processes))
        self._trim()
        self._fill()
        return self._wanted

    async def roll(self, generation: Generation) -> bool:
        """Replace all processes by such of another generation, one after the other, the oldest first.

        Returns when all work is the new ones', or with False when none of them gets ready: then all is as it was. What
        the old ones run is not waited for. There is one roll at a time.
        """
        assert self._rolled is None
        self._generations.go_on_to(generation)
        self._attach(generation)
        self._rolled = asyncio.get_running_loop().create_future()
        for member in list(self.members):
            self.replace(member)
        try:
            return await self._rolled
        finally:
            self._rolled = None

    def replace(self, member: Member) -> None:
        """Replace a process, when its turn comes."""
        if member.stays and member not in self._to_succeed:
            self._to_succeed.append(member)
            self._succeed_next()

    def expel(self, member: Member) -> None:
        """Have another process at once in the place of one that is to be killed, and let that one start nothing."""
        self._install_successor(member)
        self._dismiss(member)
        self._fill()

    def _attach(self, generation: Generation) -> None:
        generation.zygote.attach(self._on_exited, self._on_stopped, partial(self._on_zygote_lost, generation))

    def _trim(self) -> None:
        staying = [member for member in self.members if member.stays]
        for member in staying[self._wanted :][::-1]:
            self._dismiss(member)

    def _fill(self) -> None:
        for _ in range(self._wanted - sum(member.stays for member in self.members) - self._pausing):
            self._start(Backoff(0.05, 1.0))

    def _succeed_next(self) -> None:
        if self._stopping or any(member.successor_to for member in self.members):
            return
        while self._to_succeed and not self._to_succeed[0].stays:
            self._to_succeed.popleft()
        if self._to_succeed and self._free_rows():
            predecessor = self._to_succeed.popleft()
            self._start(predecessor.backoff, successor_to=predecessor)

    def _install_successor(self, member: Member) -> None:
        """Let the successor of a process that is going, if there is one, have its place already."""
        for other in self.members:
            if other.successor_to is member:
                other.successor_to = None

    def _dismiss(self, member: Member) -> None:
        member.leaving = True
        member.tell(ToWorker.DRAIN)

    def _free_rows(self) -> list[int]:
        taken = {member.index for member in self.members}
        return [index for index in range(self._generations.current.table.processes) if index not in taken]

    def _end_roll(self) -> None:
        """Note that a roll is through, if it is: no process stays that is of an older generation, or not ready."""
        current = self._generations.current
        if self._rolled is None or self._rolled.done() or not current.proved:
            return
        self._generations.previous = None
        if self.ready >= self._wanted and all(m.leaving or m.generation is current for m in self.members):
            self._rolled.set_result(True)

    def _fall_back(self, previous: Generation) -> None:
        """Give up a roll: what the new generation has started leaves, and what the older one has stays."""
        abandoned = self._generations.fall_back(previous)
        self._early_deaths = 0
        self._to_succeed.clear()
        for member in self.members:
            if member.generation is abandoned:
                member.successor_to = None
                self._dismiss(member)
        if self._rolled is not None and not self._rolled.done():
            self._rolled.set_result(False)
        self._fill()

    # Starting

    def _start(self, backoff: Backoff, successor_to: Member | None = None) -> None:
        rows = self._free_rows()
        if self._stopping or not rows:
            return  # processes that are leaving fill the table: the end of each makes room, and then this is done again
        self._serial += 1
        worker_id = f"{self._host_id}-{self._serial}"
        member, theirs = new_member(rows[0], worker_id, self._generations.current, backoff, successor_to)
        self._members[worker_id] = member
        self._do(self._fork(member, theirs), "spawn")

    async def _fork(self, member: Member, theirs: socket.socket) -> None:
        try:
            with theirs:
                member.pid = await member.generation.spawn(member.index, member.worker_id, theirs)
        except SpawnRefusedError as error:
            log.warning("process_refused", process=member.index, error=str(error))
            self._forget(member)
            self._start_after_pause(member)
            self._on_change()
            return
        except PgtasksError as error:
            self._on_failure(error)
            self._forget(member)
            self._on_change()
            return
        if self._killing:
            member.kill()  # it had no pid yet when the others were killed
        log.info("process_started", process=member.index, pid=member.pid, worker=member.worker_id)
        self._hooks.spawned(member)
        loop = asyncio.get_running_loop()
        if member.worker_id in self._members:  # and was not given up meanwhile
            loop.add_reader(member.control, self._hear, member)  # only now: it is said to be ready after it is started
        loop.call_later(_READY_SECONDS, self._end_if_not_ready, member)

    def _end_if_not_ready(self, member: Member) -> None:
        if member.worker_id in self._members and not member.ready and not self._stopping:
            log.error("process_stuck", process=member.index, pid=member.pid, seconds=_READY_SECONDS)
            member.uncharged = True
            member.kill()

    def _start_after_pause(self, member: Member) -> None:
        """Start another in the place of a process that is gone."""
        if self._stopping:
            return
        predecessor = member.successor_to
        if predecessor is not None and predecessor.stays:
            self._to_succeed.appendleft(predecessor)
        self._pausing += 1
        self._do(self._pause_and_start(member.backoff), "replace")

    async def _pause_and_start(self, backoff: Backoff) -> None:
        await asyncio.sleep(backoff.next_pause())
        self._pausing -= 1
        if self._stopping:
            return
        if sum(member.stays for member in self.members) + self._pausing < self._wanted:
            self._start(backoff)
        self._succeed_next()

    # Hearing

    def _hear(self, member: Member) -> None:
        try:
            messages = member.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            messages = b""
        if messages:
            self._on_message(member, messages)
        else:
            member.gone = True
            loop = asyncio.get_running_loop()
            loop.remove_reader(member.control)
            # If the zygote does not tell of its end by then, it stands still, and is found out when it is to fork.
            loop.call_later(_END_SECONDS, self._fill)

    def is_ready(self, member: Member) -> None:
        """Note that a process has begun to claim."""
        if member.ready:
            return
        member.ready = True
        self._early_deaths = 0
        current = member.generation is self._generations.current
        member.generation.proved = True
        if (predecessor := member.successor_to) is not None:
            member.successor_to = None
            if not predecessor.leaving:
                log.info("process_replaced", process=predecessor.index, pid=predecessor.pid, by=member.pid)
                self._dismiss(predecessor)
        self._trim()
        if not current:
            self.replace(member)
        self._succeed_next()
        self._end_roll()
        self._on_change()

    def _on_stopped(self, worker_id: str, stopped: bool) -> None:
        if (member := self._members.get(worker_id)) is not None:
            member.note_stopped(stopped)

    def _on_exited(self, worker_id: str, pid: int, status: int) -> None:
        member = self._members.get(worker_id)
        if member is None:
            return  # it was given up
        code = os.waitstatus_to_exitcode(status)
        death = Death.of(
            member.worker_id,
            pid,
            code,
            member.slots,
            uncharged=member.uncharged,
            overdue_at=member.overdue_at,
            cancelled=member.overdue_cancelled(member.overdue_at or -math.inf),
        )
        self._forget(member)
        if death.clean:
            log.info("process_exited", process=member.index, pid=pid, status=describe_status(code))
        else:
            running = [claim.job_id for claim in member.slots.running()]
            log.warning("process_exited", process=member.index, pid=pid, status=describe_status(code), running=running)
            self._on_death(death)
        self._hooks.exited(member, death)
        if not self._stopping:
            self._make_up_for(member)
            self._end_roll()
            self._generations.close_unused({member.generation for member in self.members})
        self._on_change()

    def _make_up_for(self, member: Member) -> None:
        if asyncio.get_running_loop().time() - member.born > _SETTLED_SECONDS:
            member.backoff.reset()
        if not member.ready and not member.leaving:
            self._early_deaths += 1
            if self._early_deaths >= _MOST_EARLY_DEATHS:
                if self._generations.previous is not None:
                    self._fall_back(self._generations.previous)
                    return
                self._on_failure(
                    CrashLoopError(
                        f"{self._early_deaths} worker processes in a row ended before they were ready; "
                        f"what ended them is in the log above"
                    )
                )
                return
        if member.leaving:
            self._trim()  # it may have been one too many, and then its successor is
            self._fill()
            self._succeed_next()
        else:
            self._start_after_pause(member)

    def _forget(self, member: Member) -> None:
        if self._members.pop(member.worker_id, None) is None:
            return
        self._install_successor(member)
        member.close()

    def _on_zygote_lost(self, generation: Generation) -> None:
        if generation not in self._generations:
            return
        if generation is self._generations.current and self._generations.previous is not None:
            self._fall_back(self._generations.previous)
            self.give_up(generation)
            self._generations.close_unused({member.generation for member in self.members})
            return
        self._on_failure(
            PgtasksError("the process that forks worker processes was killed; the worker cannot go on without")
        )
        # Nobody tells us any more when a worker process ends, so none is waited for.
        self.kill()
        self.give_up()

    # Stopping

    def drain(self) -> None:
        """Start nothing more, and let all processes finish what they run."""
        self._stopping = True
        for member in self.members:
            member.tell(ToWorker.DRAIN)

    def abort(self) -> None:
        """Let all processes end without waiting for what they run."""
        self._stopping = True
        for member in self.members:
            member.uncharged = True
            member.tell(ToWorker.ABORT)

    def kill(self) -> None:
        """Kill all processes."""
        self._killing = True
        self.abort()
        for member in self.members:
            member.kill()

    def give_up(self, generation: Generation | None = None) -> None:
        """Kill the processes, or those of one generation, and treat them as gone, although nobody says so."""
        for member in [m for m in self.members if generation in (None, m.generation)]:
            member.kill()
            self._on_death(Death.of(member.worker_id, member.pid, Exit.ABORTED, member.slots, uncharged=True))
            self._forget(member)
        self._on_change()

    def close(self) -> None:
        """End the zygotes."""
        self._generations.close()
