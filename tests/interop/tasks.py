"""The tasks that pgtasks runs in these tests. They record what they do in the table `runs`, as `runner.mjs` does."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from pgtasks import App, JobContext, current_app, task

if TYPE_CHECKING:
    from collections.abc import Iterator

app = App()

BEGIN = """
    insert into public.runs (job_id, task, side, attempt, payload) values (%s, %s, 'python', %s, %s) returning position
"""
END = "update public.runs set ended = clock_timestamp() where position = %s"


@contextlib.contextmanager
def recorded(payload: Any, ctx: JobContext) -> Iterator[None]:
    with current_app().connection() as connection:
        values = (ctx.job.id, ctx.job.task, ctx.attempt, json.dumps(payload, default=repr))
        position = connection.execute(BEGIN, values).fetchall()[0][0]
    yield
    with current_app().connection() as connection:
        connection.execute(END, (position,))


@task
def py_note(payload: Any, ctx: JobContext) -> None:
    with recorded(payload, ctx):
        pass


@task
def note(payload: Any, ctx: JobContext) -> None:
    """Known to both sides."""
    with recorded(payload, ctx):
        pass


@task
def hold(payload: dict[str, str], ctx: JobContext) -> None:
    """Known to both sides. Says when it begins, ends when the test lets it."""
    with recorded(payload, ctx), current_app().connection() as connection:
        while connection.execute("select from public.permits where name = %s", (payload["permit"],)).fetchone() is None:
            time.sleep(0.02)
