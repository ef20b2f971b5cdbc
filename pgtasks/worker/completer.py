"""Telling the database how jobs ended, many at a time, for as long as it takes.

Completions wait in a list. One writer takes all that wait and writes them with one statement; what comes meanwhile
makes the next batch. So a lone job is written at once, and under load the batches grow by themselves. When the
database is away the same batch is tried again, with growing pauses, until it is back: a job that ran is not forgotten.

A job whose row is locked by somebody's open transaction (a keyed add that has not committed) is not waited for, since
that would hold up all others: it is written again a moment later. So is one whose end the database refuses (a trigger
raises, a right is missing), with longer pauses.

Successes in named queues whose next jobs this process is to go on with are written apart, and first (`Queues`).

A batch that takes longer than a statement may is halved, and the next ones are no larger, until that has gone well for
a while.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pgtasks.job import SUCCESS, Outcome, OutcomeKind
from pgtasks.logs import get_logger
from pgtasks.queue.finish import NOTHING_KEPT, finish_and_keep, finish_batch
from pgtasks.worker.failure import summary_of, trace_of
from pgtasks.worker.keeping import LONGEST
from pgtasks.worker.link import took_too_long

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgtasks.job import Claim, Completion
    from pgtasks.worker.link import DatabaseLink

log = get_logger("pgtasks.worker")

_LARGEST_BATCH = 1000
"""Completions in one statement."""
_MOST_CHARACTERS = LONGEST
"""Of results in one statement, but for one that has more alone."""
_GROWTH = 10
"""How many more the next statement may have, after batches had to be halved and one has gone well."""
_FULL = 4000
"""Completions that may wait before no further job is started."""
_BUSY_SECONDS = 0.05
"""How long to leave a job alone whose row somebody else has locked."""
_REFUSED_SECONDS = 30.0
"""How long to leave a job alone whose end was refused."""
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


class Queues(Protocol):
    """Who takes the next jobs of named queues."""

    def goes_on(self, completion: Completion) -> bool:
        """Whether `advance` is to end this job, so that its queue stays with this process."""

    async def advance(self, completions: Sequence[Completion]) -> set[int] | None:
        """End jobs and take the next ones; returns the ids of those that were ended, None if that is not known."""


class Completer:
    """Writes completions; calls `on_ends` with them and their jobs' states, and then `on_written`.

    `keep` has the seconds for which results are kept, of the tasks that store them.
    """

    def __init__(
        self,
        link: DatabaseLink,
        on_written: Callable[[list[Completion]], None],
        queues: Queues,
        on_ends: Callable[[Sequence[tuple[Completion, str | None]]], None] | None = None,
        keep: Mapping[str, float] = NOTHING_KEPT,
    ) -> None:
        self._link = link
        self._keep = keep
        self._on_ends = on_ends
        self._queues = queues
        self._on_written = on_written
        self._waiting: list[Completion] = []
        self._writing: list[Completion] = []
        self._busy: list[Completion] = []
        self._busy_later: asyncio.TimerHandle | None = None
        self._refused: set[Claim] = set()
        self._largest = _LARGEST_BATCH
        self._wanted = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def pending(self) -> int:
        """How many completions the database has not confirmed, apart from those that it has refused."""
        return len(self._waiting) + len(self._writing) + len(self._busy)

    @property
    def pending_ids(self) -> list[int]:
        """The ids of all jobs whose completions the database has not confirmed."""
        pending = [completion.job.id for completion in (*self._waiting, *self._writing, *self._busy)]
        return pending + [claim.job_id for claim in self._refused]

    @property
    def full(self) -> bool:
        """Whether so many wait that no further job should be started."""
        return self.pending + len(self._refused) >= _FULL

    def add(self, completions: list[Completion]) -> None:
        """Take over `completions`."""
        if completions:
            self._waiting += completions
            self._empty.clear()
            self._wanted.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                self._writing, self._waiting = _split(self._waiting, self._largest)
                written = await self._write(self._writing)
                self._writing = []
                if not self.pending:
                    self._empty.set()
                self._on_written(written)

    async def flushed(self) -> None:
        """Wait until nothing is pending."""
        await self._empty.wait()

    async def _write(self, batch: list[Completion]) -> list[Completion]:
        """Write a batch; returns what has been dealt with, which is all but what is to be written again."""
        states: dict[int, str] = {}
        unwritten, going_on = [], []
        for completion in batch:
            if completion.job.queue is not None and self._queues.goes_on(completion):
                going_on.append(completion)
            elif completion.written:
                states[completion.job.id] = "deleted"
            else:
                unwritten.append(completion)
        unknown = False
        if going_on:
            advanced = await self._queues.advance(going_on)
            unknown = advanced is None
            states |= dict.fromkeys(advanced or (), "deleted")
            unwritten += [completion for completion in going_on if completion.job.id not in states]
        others, tries = await self._finish(unwritten)
        states |= others
        untold = not (self._refused or log.is_enabled_for(logging.INFO))
        written = []
        for completion in batch:
            state = states.get(completion.job.id)
            if untold and state == "deleted" and completion.outcome is SUCCESS:
                written.append(completion)
            elif state == "busy":
                self._busy.append(completion)
            elif state == "refused":
                asyncio.get_running_loop().call_later(_REFUSED_SECONDS, self.add, [completion])
            else:
                if self._refused:
                    self._refused.discard(completion.job.claim)
                ended = _as_accepted(completion, state)
                _report(ended, state, retried=tries > 1 or unknown)
                written.append(ended)
        if self._on_ends is not None:
            self._on_ends([(completion, states.get(completion.job.id)) for completion in written])
        if self._busy and self._busy_later is None:
            self._busy_later = asyncio.get_running_loop().call_later(_BUSY_SECONDS, self._write_busy_again)
        return written

    async def _finish(self, batch: list[Completion], *, quickly: bool = True) -> tuple[dict[int, str], int]:
        """Have the database end the claims of a batch; returns what became of the jobs, and how often it was tried."""
        if not batch:
            return {}, 1
        sql, worker_id = self._link.statements, self._link.worker_id
        if quickly:
            operation = finish_batch(sql, worker_id, batch, self._keep)
        else:
            operation = finish_and_keep(sql, worker_id, batch, self._keep, quickly=False)
        try:
            result = await self._link.insist(operation, took_too_long if len(batch) > 1 else None)
        except Exception as error:
            if len(batch) == 1:
                if (plain := _in_ascii(batch[0])) is not None:
                    return await self._finish([plain], quickly=quickly)
                job = batch[0].job
                if job.claim not in self._refused:
                    self._refused.add(job.claim)
                    log.exception("job_unwritable", job_id=job.id, task=job.task)
                return {job.id: "refused"}, 1
            # One of the jobs may be at fault: the others must not suffer for it. Or there are too many of them.
            if took_too_long(error):
                self._largest = len(batch) // 2
        else:
            self._largest = min(_LARGEST_BATCH, self._largest + _GROWTH)
            states, tries = result
            if left := [one for one in batch if states.get(one.job.id) == "left"]:
                more, more_tries = await self._finish(left, quickly=False)
                for completion in left:
                    del states[completion.job.id]
                return states | more, tries + more_tries - 1
            return result
        half = len(batch) // 2
        first, first_tries = await self._finish(batch[:half], quickly=quickly)
        second, second_tries = await self._finish(batch[half:], quickly=quickly)
        return first | second, 1 + max(first_tries, second_tries)

    def _write_busy_again(self) -> None:
        self._busy_later = None
        busy, self._busy = self._busy, []
        self.add(busy)


def _split(waiting: list[Completion], largest: int) -> tuple[list[Completion], list[Completion]]:
    """Return the next batch and the rest. No job is in a batch twice, as it can wait after a claim was lost."""
    batch: list[Completion] = []
    ids: set[int] = set()
    characters = 0
    for completion in waiting:
        if len(batch) == largest or completion.job.id in ids:
            break
        if completion.result_json is not None:
            characters += len(completion.result_json)
            if characters > _MOST_CHARACTERS and batch:
                break
        batch.append(completion)
        ids.add(completion.job.id)
    return batch, waiting[len(batch) :]


def _as_accepted(completion: Completion, state: str | None) -> Completion:
    """Return a completion as what the database has made of it: it deletes what somebody has cancelled meanwhile."""
    if state == "deleted" and completion.outcome.kind not in (OutcomeKind.SUCCESS, OutcomeKind.CANCEL):
        return completion._replace(outcome=Outcome(OutcomeKind.CANCEL, "cancelled"))
    return completion


def _in_ascii(completion: Completion) -> Completion | None:
    """Return a completion as a database of any encoding can store its texts, or None if it is so already."""
    error, result = completion.outcome.error, completion.result_json
    if (error is None or error.isascii()) and (result is None or result.isascii()):
        return None
    if error is not None:
        error = error.encode("ascii", "backslashreplace").decode()
    # What is not ASCII in JSON stands in its strings.
    result = result and _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], result)
    return completion._replace(outcome=replace(completion.outcome, error=error), result_json=result)


def _report(completion: Completion, state: str | None, *, retried: bool) -> None:
    job, outcome = completion.job, completion.outcome
    # One record a job. Its keys are API: see docs/reference/logging.md.
    keys = {
        "job_id": job.id,
        "task": job.task,
        "attempt": job.attempts,
        "queue": job.queue,
        "job_key": job.key,
        "seconds": round(completion.seconds, 6),
    }
    if state is None:
        # After a connection broke in mid-write, or in the job's own commit, this is how one that did succeed looks.
        log.warning("job_lost", outcome=outcome.kind.value, perhaps_written=retried or completion.unanswered, **keys)
    elif outcome.kind is OutcomeKind.SUCCESS:
        log.info("job_succeeded", **keys)
    elif outcome.kind is OutcomeKind.CANCEL:
        log.info("job_cancelled", reason=outcome.error, **keys)
    elif outcome.error is None:
        log.info("job_returned", state=state, **keys)
    else:
        error = summary_of(outcome.error)
        if state == "retrying":
            log.warning("job_retrying", error=error, exception=trace_of(outcome.error), **keys)
        else:
            log.error("job_failed", state=state, error=error, exception=trace_of(outcome.error), **keys)
