"""The demo's tasks: parse a file, store what it imports, sum up.

The jobs of the first are added by a trigger in SQL, for each new row of `pgtasks_demo.files` (see `schema.sql`); those
of the others by the tasks themselves, in the transaction that also writes their results. A job may run twice, when a
worker is killed at the wrong moment, so what a task writes is the same the second time.
"""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, Final

from psycopg.types.json import Json

from pgtasks import JobContext, current_app, task

SUMMARY_KEY: Final = "pgtasks_demo:summary"
"""Whoever asks for a summary while one waits only moves the one that waits."""
_SUMMARY_DELAY: Final = 0.5
"""Seconds without another request after which the summary is made."""
_LONGEST_LIST: Final = 8

_RECORD_RUN: Final = """
    insert into pgtasks_demo.runs (job_id, attempt, task, file_id, pid) values (%s, %s, %s, %s, %s)
    on conflict (job_id, attempt) do update set pid = excluded.pid
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is in a module."""

    lines: int
    functions: int
    classes: int
    imports: list[str]
    """Names of the modules that it imports, each once, sorted."""


@task
def demo_parse_file(payload: dict[str, Any], ctx: JobContext) -> None:
    """Parse a file and store what is in it. A plain function: it runs in a thread of a worker process."""
    file_id = payload["file_id"]
    with current_app().connection() as conn:
        conn.execute(_RECORD_RUN, _run(ctx, file_id))
        file = conn.execute("select module, path from pgtasks_demo.files where id = %s", [file_id]).fetchone()
    assert file is not None, "the job was added in the same transaction as the row"
    module, path = file
    found = inspect_file(Path(path), module)
    with current_app().connection() as conn, conn.transaction():
        conn.execute(
            """
            insert into pgtasks_demo.modules (file_id, lines, functions, classes) values (%s, %s, %s, %s)
            on conflict do nothing
            """,
            [file_id, found.lines, found.functions, found.classes],
        )
        demo_link_imports.defer({"file_id": file_id, "imports": found.imports}, connection=conn)


@task(priority=-1)  # before all that has the usual priority of 0: files that were begun are finished first
async def demo_link_imports(payload: dict[str, Any], ctx: JobContext) -> None:
    """Store what a file imports. A coroutine: many of them run at a time in the event loop of a worker process."""
    file_id = payload["file_id"]
    async with current_app().async_connection() as conn, conn.transaction():
        await conn.execute(_RECORD_RUN, _run(ctx, file_id))
        await conn.execute(
            "insert into pgtasks_demo.imports select %s, unnest(%s::text[]) on conflict do nothing",
            [file_id, payload["imports"]],
        )
        await conn.execute(
            "update pgtasks_demo.modules set indexed_at = clock_timestamp() where file_id = %s", [file_id]
        )
        await demo_summarize.defer_async(job_key=SUMMARY_KEY, delay=_SUMMARY_DELAY, connection=conn)


@task
async def demo_summarize(ctx: JobContext) -> None:
    """Sum up all that is known by now."""
    async with current_app().async_connection() as conn, conn.transaction():
        await conn.execute(_RECORD_RUN, _run(ctx))
        totals = await conn.execute(
            """
            select count(*), coalesce(sum(lines), 0), coalesce(sum(functions), 0), coalesce(sum(classes), 0)
            from pgtasks_demo.modules
            """
        )
        largest = await conn.execute(
            """
            select files.module, modules.lines, modules.functions, modules.classes
            from pgtasks_demo.modules join pgtasks_demo.files on files.id = modules.file_id
            order by modules.lines desc, files.module limit %s
            """,
            [_LONGEST_LIST],
        )
        most_imported = await conn.execute(
            """
            select imported, count(*) from pgtasks_demo.imports
            group by imported order by count(*) desc, imported limit %s
            """,
            [_LONGEST_LIST],
        )
        summary = {
            "totals": await totals.fetchone(),
            "largest": await largest.fetchall(),
            "most_imported": await most_imported.fetchall(),
        }
        await conn.execute(
            """
            insert into pgtasks_demo.summaries (job_id, summary) values (%s, %s)
            on conflict (job_id) do update set summary = excluded.summary
            """,
            [ctx.job.id, Json(summary)],
        )


def inspect_file(path: Path, module: str) -> Findings:
    """Parse a file of Python source.

    Args:
        path: The file.
        module: Its name as a module, against which relative imports are resolved.

    Raises:
        SyntaxError: It is not Python, or not of this version.
    """
    source = path.read_bytes()
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    functions = classes = 0
    imports: set[str] = set()
    for node in ast.walk(ast.parse(source, filename=path.name)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions += 1
            case ast.ClassDef():
                classes += 1
            case ast.Import():
                imports.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                imports.add(_imported(node, package))
    return Findings(len(source.splitlines()), functions, classes, sorted(imports))


def _imported(node: ast.ImportFrom, package: str) -> str:
    name = "." * node.level + (node.module or "")
    return resolve_name(name, package) if node.level and package else name


def _run(ctx: JobContext, file_id: int | None = None) -> tuple[int, int, str, int | None, int]:
    return ctx.job.id, ctx.attempt, ctx.job.task, file_id, os.getpid()


TASKS: Final = (demo_parse_file.name, demo_link_imports.name, demo_summarize.name)
"""Their names, by which the demo knows its own jobs."""
