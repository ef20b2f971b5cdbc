"""What happens to the jobs of a worker process that has ended.

Jobs that were running are charged: the attempt counts, and the error says how the process ended. So are those whose
failure had not been written yet. Jobs that it had only claimed go back as they were. Where we ended the process
ourselves, all of them go back as they were; if that was over jobs that had run for too long, only these are charged.
What somebody has cancelled is deleted instead, which the database sees to.

A process that has drained may leave jobs too, if the answer to a claim of its was lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pgtasks.database.errors import is_outage
from pgtasks.job import Outcome, OutcomeKind
from pgtasks.logs import get_logger
from pgtasks.queue.finish import finish_jobs, release_worker
from pgtasks.worker.link import Backoff
from pgtasks.worker.protocol import Exit, describe_status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pgtasks.job import Claim
    from pgtasks.worker.host_hooks import HostHooks
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")


_EVENTS: Final = {
    "retrying": ("job_retrying", log.warning),
    "snoozed": ("job_returned", log.info),
    "deleted": ("job_cancelled", log.info),
}
"""By the state of a job, what is logged of it; of all others that it has failed."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker process."""

    worker_id: str
    pid: int
    code: int
    """Its exit code or, negative, the signal that killed it."""
    running: tuple[Claim, ...]
    """What it was running, or what of that was overdue."""
    clean: bool
    """Whether it left nothing behind that it knew of."""
    uncharged: bool
    """Whether it is not the jobs' fault."""
    timeouts: Mapping[int, float] = field(default_factory=dict)
    """The time limits, by job id, of those that were overdue."""
    cancelled: frozenset[Claim] = frozenset()
    """Those that were overdue since somebody had cancelled them; they end so whatever is written."""

    @classmethod
    def of(
        cls,
        worker_id: str,
        pid: int,
        code: int,
        slots: ProcessSlots,
        *,
        uncharged: bool,
        overdue_at: float | None = None,
        cancelled: Collection[Claim] = (),
    ) -> Death:
        """Read from its slots what a dead process has left behind.

        Args:
            worker_id: who it was.
            pid: likewise.
            code: its exit code or, negative, the signal that killed it.
            slots: its part of the slot table.
            uncharged: whether we ended it.
            overdue_at: when we killed it, if that was over jobs that were overdue by then.
            cancelled: those of them that somebody had cancelled.
        """
        view = slots.view()
        running = tuple(slots.running())
        # A handler that calls os._exit(0) ends its process with the code of one that has drained.
        clean = code == Exit.DRAINED and not (running or view.queued or view.finishing or view.unsure)
        if overdue_at is None:
            return cls(worker_id, pid, code, tuple(slots.chargeable()), clean, uncharged or view.aborted)
        overdue = slots.overdue(overdue_at)
        claims = tuple(dict.fromkeys([*(claim for claim, _ in overdue), *cancelled]))
        timeouts = {claim.job_id: timeout for claim, timeout in overdue}
        return cls(worker_id, pid, code, claims, clean, uncharged or view.aborted, timeouts, frozenset(cancelled))

    def error_of(self, claim: Claim) -> str:
        """Return what a job that was running is charged with."""
        if claim in self.cancelled:
            return (
                f"JobCancelledError: did not stop when asked to, so the process that ran it (pid {self.pid}) was killed"
            )
        timeout = self.timeouts.get(claim.job_id)
        if timeout is None:
            how = describe_status(self.code)
            return f"WorkerProcessDied: the process that ran this job (pid {self.pid}) ended: {how}"
        return (
            f"JobTimeoutError: ran longer than {timeout:g} s and did not stop when asked to, "
            f"so the process that ran it (pid {self.pid}) was killed"
        )


async def recover(link: DatabaseLink, death: Death, hooks: HostHooks) -> None:
    """Charge or give back all jobs that the dead process held, however long the database or a lock takes."""
    left = [] if death.uncharged else list(death.running)
    open_to = [claim for claim in left if claim not in death.cancelled]
    decided = await hooks.decide(death.worker_id, {claim: death.error_of(claim) for claim in open_to})
    charged = returned = 0
    backoff = Backoff(0.05, 1.0)
    while True:
        # First what was not running, which must not wait for a row that somebody has locked.
        kept = [claim.job_id for claim in left]
        with link.forgiving("release_worker", worker=death.worker_id):
            released, _ = await link.insist(release_worker(link.statements, death.worker_id, kept, retire=True))
            returned += released.returned
            ended, left = await _charge(link, death, left, decided)
            charged += ended
            if released.complete and not left:
                if not kept:
                    break
                continue  # once more, for a job that a slot names and that was claimed again since
        await asyncio.sleep(backoff.next_pause())
    log.info("jobs_recovered", worker=death.worker_id, charged=charged, returned=returned)
    hooks.recovered(death.worker_id, charged, returned)


async def _charge(
    link: DatabaseLink, death: Death, claims: list[Claim], decided: Mapping[Claim, Outcome]
) -> tuple[int, list[Claim]]:
    """Fail the jobs that were running, or do what was decided.

    Returns:
        How many, and those whose rows an open transaction has locked.
    """
    if not claims:
        return 0, []
    errors = {claim.job_id: death.error_of(claim) for claim in claims}
    ends = [(claim, decided.get(claim) or Outcome(OutcomeKind.RETRY, errors[claim.job_id])) for claim in claims]
    try:
        states, _ = await link.insist(finish_jobs(link.statements, death.worker_id, ends))
    except Exception as refusal:
        if is_outage(refusal):
            raise
        log.exception("jobs_not_charged", worker=death.worker_id, jobs=[claim.job_id for claim in claims])
        return 0, []
    for job_id, state in states.items():
        if state != "busy":
            event, report = _EVENTS.get(state, ("job_failed", log.error))
            report(event, job_id=job_id, state=state, error=errors[job_id])
    busy = [claim for claim in claims if states.get(claim.job_id) == "busy"]
    return len(states) - len(busy), busy
