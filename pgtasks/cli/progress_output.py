"""How far jobs have come, as commands show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.cli.tables import as_utc, number, span

if TYPE_CHECKING:
    from pgtasks.progress import JobProgress


def amount(progress: JobProgress) -> str:
    """Return how much is done, and of how much: `3/10`."""
    done = number(progress.done)
    return done if progress.total is None else f"{done}/{number(progress.total)}"


def percent(progress: JobProgress) -> str:
    """Return how much of it is done; nothing where that is not known. Not 100 % before it is all."""
    return "" if progress.fraction is None else f"{int(progress.fraction * 100)} %"


def progress_fact(progress: JobProgress) -> str:
    """Return all that is known, in one line."""
    of_all = percent(progress)
    return "".join(
        (
            amount(progress),
            f" ({of_all})" if of_all else "",
            f", {span(progress.age)} ago",
            f": {progress.note}" if progress.note else "",
        )
    )


def progress_object(progress: JobProgress) -> dict[str, Any]:
    """Return it for `show_json`."""
    return {
        "done": progress.done,
        "total": progress.total,
        "fraction": progress.fraction,
        "note": progress.note,
        "attempt": progress.attempt,
        "updated_at": as_utc(progress.updated_at),
        "age": progress.age,
    }
