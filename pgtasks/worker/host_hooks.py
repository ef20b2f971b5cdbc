"""What plugins hear and decide in the supervisor."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgtasks import codec
from pgtasks.hookdata import HostInfo, LostJob, ProcessInfo, ProcessState
from pgtasks.job import JobSpec
from pgtasks.worker.decisions import read_decision
from pgtasks.worker.protocol import describe_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgtasks.cron.clocks import Skew
    from pgtasks.cron.ticks import CronTick
    from pgtasks.hookdata import Application
    from pgtasks.job import Claim, Outcome
    from pgtasks.plugins import LoopDispatch
    from pgtasks.worker.fleet import Fleet
    from pgtasks.worker.member import Member
    from pgtasks.worker.recovery import Death

_TICK_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 5.0
"""How long the end of the supervisor waits for plugins."""


class HostHooks:
    """The hooks that are called in the supervisor.

    Args:
        app: what plugins are given for the application.
        hooks: who calls them.
        host: which host this is.
    """

    def __init__(self, app: Application, hooks: LoopDispatch, host: HostInfo) -> None:
        self._app = app
        self._hooks = hooks
        self._host = host
        self.database_error = hooks.observer("database_error")
        self.listen_lost = hooks.observer("listen_lost")
        self.listen_restored = hooks.observer("listen_restored")

    @property
    def observes(self) -> bool:
        """Whether any plugin is told of anything."""
        return self._hooks.observes

    def ready(self) -> None:
        """Tell that the worker starts."""
        self._hooks.tell("supervisor_ready", app=self._app, host=self._host)

    def spawned(self, member: Member) -> None:
        """Tell of a process that was started."""
        self._hooks.tell("worker_spawned", process=_info(member))

    def exited(self, member: Member, death: Death) -> None:
        """Tell of the end of a process, and if it left jobs behind, of that."""
        process = _info(member)
        self._hooks.tell("worker_exited", process=process, code=death.code)
        if not (death.clean or death.uncharged):
            jobs = [LostJob(claim.job_id, death.worker_id, death.error_of(claim)) for claim in death.running]
            reason = describe_status(death.code)
            self._hooks.tell("on_worker_lost", process=process, code=death.code, reason=reason, jobs=jobs)

    async def decide(self, worker_id: str, errors: Mapping[Claim, str]) -> dict[Claim, Outcome]:
        """Return what plugins make of jobs that were running in a process that has died.

        They are asked about all at once, since nothing that the process held is given back before.
        """
        if not self._hooks.has("recover_job"):
            return {}
        decisions = await asyncio.gather(
            *(
                self._hooks.decide_async("recover_job", read_decision, lost=LostJob(claim.job_id, worker_id, error))
                for claim, error in errors.items()
            )
        )
        return {
            claim: decision.outcome(errors[claim])
            for claim, decision in zip(errors, decisions, strict=True)
            if decision is not None
        }

    def recovered(self, worker_id: str, charged: int, returned: int) -> None:
        """Tell what has become of the jobs of a process that has died."""
        self._hooks.tell("jobs_recovered", worker_id=worker_id, charged=charged, returned=returned)

    def shutdown(self, reason: str) -> None:
        """Tell that the worker begins to stop."""
        self._hooks.tell("shutdown_requested", reason=reason)

    async def run(self, fleet: Fleet) -> None:
        """Call `supervisor_tick` now and then and give up observers that hang, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hooks.watch())
            if self._hooks.has("supervisor_tick"):
                group.create_task(self._tick(fleet))

    async def _tick(self, fleet: Fleet) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            host = replace(self._host, processes=fleet.wanted, states=tuple(map(_state, fleet.members)))
            await self._hooks.told("supervisor_tick", host=host)

    async def before_cron(self, ticks: Sequence[CronTick]) -> Sequence[CronTick]:
        """Return what plugins make of ticks that are about to be scheduled."""
        if not self._hooks.has("before_cron_schedule"):
            return ticks
        return await self._hooks.change_async("before_cron_schedule", ticks, read_ticks, argument="ticks")

    def backfilling(self, ticks: Sequence[CronTick]) -> None:
        """Tell of ticks that were missed and are about to be scheduled."""
        self._hooks.tell("cron_backfill", ticks=tuple(ticks))

    def cron_scheduled(self, ticks: Sequence[CronTick]) -> None:
        """Tell of ticks whose jobs were added."""
        self._hooks.tell("cron_scheduled", ticks=tuple(ticks))

    def clock_skew(self, skew: Skew) -> None:
        """Tell that clocks are not as they should be."""
        self._hooks.tell("cron_clock_skew", clock=skew.clock, seconds=skew.seconds, reason=skew.reason)

    async def health_problems(self) -> list[str]:
        """Return what plugins say is wrong."""
        answers = await self._hooks.collect_async("health_check", read_problems)
        return [problem for _, problems in answers if problems for problem in problems]

    async def stopped(self) -> None:
        """Tell that all has ended, and give plugins a moment for it."""
        self._hooks.tell("supervisor_stopped", host=self._host)
        await self._hooks.flushed(_LAST_SECONDS)


def _info(member: Member) -> ProcessInfo:
    return ProcessInfo(member.worker_id, member.index, member.pid)


def _state(member: Member) -> ProcessState:
    view = member.slots.view()
    return ProcessState(_info(member), view.running, view.free, view.queued)


def read_problems(answer: Any) -> list[str]:
    """Return a plugin's answer to `health_check`, or raise."""
    return [answer] if isinstance(answer, str) else [str(problem) for problem in answer]


def read_ticks(answer: Any, ticks: Sequence[CronTick]) -> Sequence[CronTick]:
    """Return a plugin's answer to `before_cron_schedule`, in the order of what it was given, or raise."""
    answered = {tick.name: tick for tick in answer}
    given = {tick.name for tick in ticks}
    for name, tick in answered.items():
        if name not in given:
            raise ValueError(f"{name[0]!r} at {name[1]} is none of the ticks that were given")
        if not isinstance(tick.spec, JobSpec):
            raise TypeError(f"the spec of {name[0]!r} is no JobSpec")
        # In the database, a statement would fail with all that is in it.
        codec.encode(tick.spec.payload, f"payload of cron entry {name[0]!r}")
    return [answered[tick.name] for tick in ticks if tick.name in answered]
