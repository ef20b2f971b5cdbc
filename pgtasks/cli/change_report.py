"""What the commands that change jobs say afterwards: what was done, and what was left alone and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.job_output import job_object
from pgtasks.cli.output import note
from pgtasks.cli.tables import count, listed, safe, show_json
from pgtasks.errors import LeftUndoneError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgtasks.job import Job
    from pgtasks.queue.admin import JobChange
    from pgtasks.queue.cancel import JobCancellation


@dataclass(frozen=True)
class Action:
    """The words for what is done to jobs."""

    done: str
    """What was done to them: `completed`."""
    question: str | None = None
    """What is asked before it is done to several jobs, `{}` being so many jobs; None: nothing is."""
    to_run: bool = False
    """Whether it says when the jobs run, so that it has to be told of those that do not."""


def show_changes(changes: Sequence[JobChange], action: Action, *, dry_run: bool, as_json: bool) -> None:
    """Say what was done about the jobs that were named by their ids.

    Raises:
        LeftUndoneError: Some were left alone.
    """
    if as_json:
        show_json(
            {"id": change.id, "done": change.done, "reason": change.reason, "job": _object(change.job)}
            for change in changes
        )
    elif done := [str(change.id) for change in changes if change.done]:
        click.echo(_told("job", done, action.done, dry_run=dry_run))
    if action.to_run:
        _note_failed([change.job for change in changes if change.job is not None])
    problems = {str(change.id): _why(change.reason) for change in changes if not change.done}
    raise_left("job", problems, len(changes), dry_run=dry_run)


def show_cancellations(cancelled: Sequence[JobCancellation], *, dry_run: bool, as_json: bool) -> None:
    """Say what became of jobs that were to be cancelled.

    Raises:
        LeftUndoneError: Some ids were those of no job.
    """
    if as_json:
        show_json({"id": one.id, "done": one.done, "state": one.state, "job": _object(one.job)} for one in cancelled)
    else:
        if gone := [str(one.id) for one in cancelled if one.state == "removed"]:
            click.echo(_told("job", gone, "removed", dry_run=dry_run))
        kept = "kept from another attempt, while it runs to its end on"
        for state, what in (("stopping", "asked to stop on"), ("running", kept)):
            for worker, ids in _by_worker(one.job for one in cancelled if one.state == state).items():
                click.echo(_told("job", ids, f"{what} {safe(worker)}", dry_run=dry_run))
    problems = {str(one.id): _why(one.state) for one in cancelled if not one.done}
    raise_left("job", problems, len(cancelled), done="cancelled", dry_run=dry_run)


def show_removed(removed: Mapping[str, Job | None], *, dry_run: bool, as_json: bool) -> None:
    """Say what became of the jobs that were named by their keys.

    Raises:
        LeftUndoneError: Some keys were those of no job.
    """
    if as_json:
        show_json(
            {"key": key, "done": job is not None, "reason": None if job else "unknown", "job": _object(job)}
            for key, job in removed.items()
        )
    else:
        found = [job for job in removed.values() if job is not None]
        if gone := [str(job.id) for job in found if job.locked_by is None]:
            click.echo(_told("job", gone, "removed", dry_run=dry_run))
        if running := [str(job.id) for job in found if job.locked_by is not None]:
            what = "kept from another attempt, while this one runs to its end"
            click.echo(_told("job", running, what, dry_run=dry_run))
    problems = {repr(key): "no job has it" for key, job in removed.items() if job is None}
    raise_left("key", problems, len(removed), done="found", dry_run=dry_run)


def raise_left(
    noun: str, problems: Mapping[str, str], total: int, *, done: str = "changed", dry_run: bool = False
) -> None:
    """Raise an error that names what nothing could be done about, if there is any.

    Args:
        noun: What the names are names of.
        problems: By name, why nothing was done about it.
        total: How many there were.
        done: What was to be done about them.
        dry_run: Whether it is only what would be.

    Raises:
        LeftUndoneError: There are problems.
    """
    if not problems:
        return
    were = "would not be" if dry_run else "was not" if len(problems) == 1 else "were not"
    if total == 1:
        ((name, why),) = problems.items()
        raise LeftUndoneError(f"{noun} {name} {were} {done}: {why}")
    told = listed([f"{name} ({why})" for name, why in problems.items()])
    raise LeftUndoneError(f"{len(problems)} of {total} {noun}s {were} {done}: {told}")


def _told(noun: str, names: Sequence[str], done: str, *, dry_run: bool) -> str:
    """Return what was done to things, in one line that names the first of them.

    >>> _told("job", ["42"], "completed", dry_run=False), _told("job", ["1", "2"], "completed", dry_run=True)
    ('job 42 completed', '2 jobs would be completed: 1, 2')
    """
    what = f"would be {done}" if dry_run else done
    if len(names) == 1:
        return f"{noun} {names[0]} {what}"
    return f"{count(len(names), noun)} {what}: {listed(names)}"


def _by_worker(jobs: Iterable[Job | None]) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for job in jobs:
        if job is not None:
            ids.setdefault(job.locked_by or "nobody", []).append(str(job.id))
    return ids


def _note_failed(jobs: Sequence[Job]) -> None:
    """Say which of the jobs do not run whatever their time, and what helps."""
    if failed := [str(job.id) for job in jobs if job.attempts >= job.max_attempts]:
        what = f"job {failed[0]} has" if len(failed) == 1 else f"{count(len(failed), 'job')} have"
        names = "" if len(failed) == 1 else f" ({listed(failed)})"
        note(
            f"{what} failed permanently and will not run{names}: 'pgtasks jobs retry', or --attempts 0, gives all "
            "attempts again"
        )


def _why(reason: str | None) -> str:
    return "there is no such job" if reason == "unknown" else safe(reason or "")


def _object(job: Job | None) -> dict[str, Any] | None:
    return None if job is None else job_object(job)
