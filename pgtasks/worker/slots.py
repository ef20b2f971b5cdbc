"""The slot table: what each worker process is doing, in memory that outlives it.

The supervisor makes the table as an unlinked file that every process maps. Only one process writes to a part of it,
so there are no locks: a worker process its own header and slots, the supervisor the rest. After a process has died,
even by SIGKILL, the supervisor reads from its slots which jobs were running, and so which are to be charged.

A slot is written before the job's first line runs and cleared after its last; its state byte is written last when it
is taken and first when it is cleared, so a half-written slot never looks taken.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.job import Claim, time_at

if TYPE_CHECKING:
    from pgtasks.job import Job

# started_claims, running, queued, finishing, free, idle, unsure, aborted, narrowed, succeeded, failed
_HEADER = struct.Struct("=qiiiibbbbxxxxqq")
_HEADER_SIZE = 96
# When the process last said that it moves, by the monotonic clock, which all processes of a host share.
_TICK = struct.Struct("=d")
_TICK_OFFSET = 48
# When the last heartbeat of the process was sent that went through, by `awake_or_not`; the supervisor writes it.
_BEAT_OFFSET = 56
# Whether the process has ever run a job with a deadline, so that its slots are worth looking through.
_DEADLINES_OFFSET = 64
# job id, locked_at in microseconds since 2000, attempt, keyed, state
_SLOT = struct.Struct("=qqibb")
_SLOT_SIZE = 40
_STATE_OFFSET = 21
# When the process is to be killed and the time limit, of a job that has one; zeros otherwise.
_DEADLINE = struct.Struct("=dd")
_DEADLINE_OFFSET = 24
_FREE, _RUNNING, _FAILED = 0, 1, 2
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class ProcessView:
    """What a process says of itself."""

    started_claims: int = 0
    """How many claims it has begun."""
    running: int = 0
    """Jobs that are running."""
    queued: int = 0
    """Jobs that are claimed and wait for a slot."""
    finishing: int = 0
    """Jobs that have ended and wait for the database to be told."""
    free: int = 0
    """Slots without a job."""
    idle: bool = False
    """Whether it holds no job and has found none to claim since it was last woken."""
    unsure: bool = False
    """Whether the answer to a claim was lost, so that it may hold jobs that it does not know of."""
    aborted: bool = False
    """Whether it was told to cut its jobs off, so that those still in its slots are not to be charged."""
    narrowed: bool = False
    """Whether plugins have its last claim leave something out."""
    succeeded: int = 0
    """Jobs that have succeeded."""
    failed: int = 0
    """Attempts that have failed."""


def awake_or_not() -> float:
    """Return a time in seconds that goes on while the machine sleeps, where the system has such a clock.

    `time.monotonic` stands still meanwhile on Linux, and so knows nothing of the heartbeats that were not sent.
    """
    return time.clock_gettime(_CLOCK)


class SlotTable:
    """The whole table, as the supervisor sees it."""

    def __init__(self, descriptor: int, processes: int, slots: int) -> None:
        self._process_size = _HEADER_SIZE + slots * _SLOT_SIZE
        self.descriptor = descriptor
        self.processes = processes
        self.slots = slots
        self._map = mmap.mmap(descriptor, processes * self._process_size)

    @classmethod
    def create(cls, processes: int, slots: int) -> SlotTable:
        """Make a table for so many processes with so many slots each."""
        shared_memory = Path("/dev/shm")  # noqa: S108 - the file has no name by the time anybody could look for it
        directory = shared_memory if os.access(shared_memory, os.W_OK) else None
        with tempfile.TemporaryFile(dir=directory) as file:
            descriptor = os.dup(file.fileno())
        size = processes * (_HEADER_SIZE + slots * _SLOT_SIZE)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # a full disk is an error here, and not a SIGBUS later
        else:
            os.truncate(descriptor, size)
        return cls(descriptor, processes, slots)

    def of_process(self, index: int) -> ProcessSlots:
        """Return the part of the process with this index."""
        return ProcessSlots(self._map, index * self._process_size, self.slots)

    def close(self) -> None:
        """Give the file back; what is mapped stays until nobody looks at it any more."""
        os.close(self.descriptor)


class ProcessSlots:
    """The part of one process."""

    def __init__(self, memory: mmap.mmap, offset: int, slots: int) -> None:
        self._memory = memory
        self._offset = offset
        self._first = offset + _HEADER_SIZE
        self.slots = slots

    def clear(self) -> None:
        """Forget all, for a new process."""
        self._memory[self._offset : self._first + self.slots * _SLOT_SIZE] = bytes(
            _HEADER_SIZE + self.slots * _SLOT_SIZE
        )

    def take(self, slot: int, job: Job) -> None:
        """Note that `job` runs in `slot`; if it has a deadline, `set_deadline` comes first."""
        position = self._first + slot * _SLOT_SIZE
        keyed = job.key is not None
        _SLOT.pack_into(self._memory, position, job.id, job.locked_micros, job.attempts, keyed, _FREE)
        self._memory[position + _STATE_OFFSET] = _RUNNING

    def leave(self, slot: int, *, failed: bool = False) -> None:
        """Note that nothing runs in `slot` any more, and whether its job has failed.

        A failure is remembered until the slot is taken again: a process may die before it is written.
        """
        self._memory[self._first + slot * _SLOT_SIZE + _STATE_OFFSET] = _FAILED if failed else _FREE

    def set_deadline(self, slot: int, deadline: float, timeout: float) -> None:
        """Note what the job that is about to run in `slot` has for a time limit.

        Args:
            slot: the slot.
            deadline: when this process is to be killed if the job is still running, by `time.monotonic`.
            timeout: the time limit in seconds, for the error that the job is then charged with.
        """
        _DEADLINE.pack_into(self._memory, self._first + slot * _SLOT_SIZE + _DEADLINE_OFFSET, deadline, timeout)
        self._memory[self._offset + _DEADLINES_OFFSET] = 1

    def lift_deadline(self, slot: int) -> None:
        """Note, from any thread, that the job in `slot` has ended, though the event loop may not have heard of it."""
        _DEADLINE.pack_into(self._memory, self._first + slot * _SLOT_SIZE + _DEADLINE_OFFSET, 0.0, 0.0)

    def overdue(self, now: float) -> list[tuple[Claim, float]]:
        """Return the claims of the jobs that run, and whose deadlines are over, each with its time limit."""
        found: list[tuple[Claim, float]] = []
        if not self._memory[self._offset + _DEADLINES_OFFSET]:
            return found
        for slot in range(self.slots):
            position = self._first + slot * _SLOT_SIZE
            deadline, timeout = _DEADLINE.unpack_from(self._memory, position + _DEADLINE_OFFSET)
            job_id, micros, _, keyed, state = _SLOT.unpack_from(self._memory, position)
            if state == _RUNNING and 0 < deadline <= now:
                found.append((Claim(job_id, time_at(micros), bool(keyed)), timeout))
        return found

    def running(self) -> list[Claim]:
        """Return the claims of the jobs that run, or ran when the process died."""
        return self._claims(_RUNNING)

    def chargeable(self) -> list[Claim]:
        """Return the claims of the jobs that run, and of those that have failed last in their slots.

        The latter's ends may have been written long ago. Writing them again does no harm, since a claim that has ended
        ends nothing.
        """
        return self._claims(_RUNNING, _FAILED)

    def slot_of(self, job: Job) -> int | None:
        """Return the slot in which a claimed job runs, if it does."""
        for slot in range(self.slots):
            position = self._first + slot * _SLOT_SIZE
            job_id, micros, _, _, state = _SLOT.unpack_from(self._memory, position)
            if state == _RUNNING and (job_id, micros) == (job.id, job.locked_micros):
                return slot
        return None

    def _claims(self, *states: int) -> list[Claim]:
        claims = []
        for slot in range(self.slots):
            position = self._first + slot * _SLOT_SIZE
            job_id, micros, _, keyed, state = _SLOT.unpack_from(self._memory, position)
            if state in states:
                claims.append(Claim(job_id, time_at(micros), bool(keyed)))
        return claims

    def tick(self) -> None:
        """Note that the process moves."""
        _TICK.pack_into(self._memory, self._offset + _TICK_OFFSET, time.monotonic())

    def last_tick(self) -> float | None:
        """Return when the process last said that it moves, by `time.monotonic`; None if it has not yet."""
        (moved,) = _TICK.unpack_from(self._memory, self._offset + _TICK_OFFSET)
        return moved or None

    def beat(self, sent: float) -> None:
        """Note that a heartbeat has gone through which was sent at `sent`, by `awake_or_not`."""
        _TICK.pack_into(self._memory, self._offset + _BEAT_OFFSET, sent)

    @property
    def last_beat(self) -> float:
        """When the last heartbeat was sent that has gone through, by `awake_or_not`."""
        (sent,) = _TICK.unpack_from(self._memory, self._offset + _BEAT_OFFSET)
        return float(sent)

    def publish(self, view: ProcessView) -> None:
        """Write what the process says of itself."""
        _HEADER.pack_into(
            self._memory,
            self._offset,
            view.started_claims,
            view.running,
            view.queued,
            view.finishing,
            view.free,
            view.idle,
            view.unsure,
            view.aborted,
            view.narrowed,
            view.succeeded,
            view.failed,
        )

    def view(self) -> ProcessView:
        """Read what the process says of itself."""
        *counts, idle, unsure, aborted, narrowed, succeeded, failed = _HEADER.unpack_from(self._memory, self._offset)
        states = bool(idle), bool(unsure), bool(aborted), bool(narrowed)
        claims, running, queued, finishing, free = counts
        return ProcessView(claims, running, queued, finishing, free, *states, succeeded, failed)
