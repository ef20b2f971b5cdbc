"""What happens to the jobs of a worker process that has died.

Jobs that were running are charged: the attempt counts, and the error says how the process ended. Jobs that it had only
claimed go back as they were. Where we ended the process ourselves, all of them go back as they were.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.job import Outcome, OutcomeKind
from pgtasks.logs import get_logger
from pgtasks.queue.finish import finish_jobs, release_worker
from pgtasks.worker.protocol import Exit
from pgtasks.worker.zygotes import describe_status

if TYPE_CHECKING:
    from pgtasks.job import Claim
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_BUSY_SECONDS = 0.05
"""How long to leave a job alone whose row somebody's open transaction has locked."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker process."""

    worker_id: str
    pid: int
    code: int
    """Its exit code or, negative, the signal that killed it."""
    running: tuple[Claim, ...]
    """What it was running."""
    clean: bool
    """Whether it left nothing behind."""
    uncharged: bool
    """Whether it is not the jobs' fault."""

    @classmethod
    def of(cls, worker_id: str, pid: int, code: int, slots: ProcessSlots, *, uncharged: bool) -> Death:
        """Read from its slots what a dead process has left behind."""
        running = tuple(slots.running())
        view = slots.view()
        # A handler that calls os._exit(0) ends its process with the code of one that has drained.
        clean = code == Exit.DRAINED and not (running or view.queued or view.finishing)
        return cls(worker_id, pid, code, running, clean, uncharged or view.aborted)


async def recover(link: DatabaseLink, death: Death) -> None:
    """Charge or give back all jobs that the dead process held."""
    charged = 0 if death.uncharged else await _charge(link, death)
    returned, _ = await link.insist(release_worker(link.statements, death.worker_id))
    log.info("jobs_recovered", worker=death.worker_id, charged=charged, returned=returned)


async def _charge(link: DatabaseLink, death: Death) -> int:
    """Fail the jobs that were running; returns how many were still held."""
    error = f"WorkerProcessDied: the process that ran this job (pid {death.pid}) ended: {describe_status(death.code)}"
    outcome = Outcome(OutcomeKind.RETRY, error)
    left = list(death.running)
    charged = 0
    while left:
        states, _ = await link.insist(
            finish_jobs(link.statements, death.worker_id, [(claim, outcome) for claim in left])
        )
        for job_id, state in states.items():
            if state != "busy":
                charged += 1
                report = log.warning if state == "retrying" else log.error
                report("job_retrying" if state == "retrying" else "job_failed", job_id=job_id, state=state, error=error)
        left = [claim for claim in left if states.get(claim.job_id) == "busy"]
        if left:
            await asyncio.sleep(_BUSY_SECONDS)
    return charged
