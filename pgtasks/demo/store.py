"""What the demo keeps in the database: a schema of its own, jobs of its own tasks, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg import sql

from pgtasks.demo.tasks import TASKS, demo_link_imports, demo_parse_file, demo_summarize
from pgtasks.errors import PgtasksError
from pgtasks.sql import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from pgtasks.demo.source import SourceFile

SCHEMA: Final = "pgtasks_demo"
"""The demo's schema, whose name also stands in `schema.sql` and in the tasks."""
_MARK: Final = "Made by 'pgtasks demo', which removes it at its end."
"""The schema's comment: by it the demo knows what an earlier run, killed half-way, has left behind."""
_DEFINITION: Final = Path(__file__).parent / "schema.sql"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work has come."""

    indexed: int
    """Files that are done."""
    runs: int
    """Jobs that were started, counting each attempt."""
    waiting: int
    """Jobs that are still to be run, or run at this moment."""
    failed: int
    """Jobs that are permanently failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that is permanently failed."""

    path: str
    attempts: int
    last_error: str
    """The first line of it."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process did."""

    pid: int
    parsed: int
    linked: int
    summaries: int

    @property
    def jobs(self) -> int:
        """All that it ran."""
        return self.parsed + self.linked + self.summaries


@dataclass(frozen=True, slots=True)
class Results:
    """What the tasks found, and who did it."""

    modules: int
    lines: int
    functions: int
    classes: int
    largest: list[tuple[str, int, int, int]]
    """Module, lines, functions, classes."""
    most_imported: list[tuple[str, int]]
    """Module, how many others import it."""
    shares: list[Share]
    seconds: float
    """From the first start of a job until the last file was indexed."""
    timed_jobs: int
    """Jobs that were started in this time."""
    failures: list[Failure]
    summaries_asked_for: int

    @property
    def jobs(self) -> int:
        """All jobs that were run, counting each attempt."""
        return sum(share.jobs for share in self.shares)

    @property
    def summaries(self) -> int:
        """How often a summary was made."""
        return sum(share.summaries for share in self.shares)


class Store:
    """The demo's part of a database.

    Args:
        connection: A connection in autocommit mode. It holds a lock as long as it is open: one demo a database.
        queue_schema: The schema that holds the queue.
    """

    def __init__(self, connection: psycopg.Connection[Any], queue_schema: str) -> None:
        self._connection = connection
        connection.prepare_threshold = None  # behind PgBouncer each statement may reach another session
        self._queue = sql.Identifier(queue_schema)
        self._queue_schema = queue_schema

    def claim(self) -> None:
        """Make sure that the schema is free for us, before anything is touched.

        Raises:
            PgtasksError: Another demo runs, or somebody else has a schema of that name.
        """
        locked = self._rows("select pg_try_advisory_lock(hashtextextended('pgtasks demo', 0))")
        if locked != [(True,)]:
            raise PgtasksError("another 'pgtasks demo' runs on this database; wait for its end")
        marks = self._rows("select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s", SCHEMA)
        if marks not in ([], [(_MARK,)]):
            raise PgtasksError(
                f"this database has a schema {SCHEMA!r} that 'pgtasks demo' did not make; nothing was changed. "
                f"Rename it, or run the demo on another database"
            )

    def create(self, files: Sequence[SourceFile]) -> None:
        """Make the schema and fill its table of files, which adds a job for each of them."""
        with self._connection.transaction():
            self._connection.execute(render(_DEFINITION.read_text(encoding="utf-8"), self._queue_schema).encode())
            self._execute("comment on schema {demo} is {mark}", mark=sql.Literal(_MARK))
            self._execute(
                "insert into {demo}.files (module, path) select * from unnest(%s::text[], %s::text[])",
                [file.module for file in files],
                [str(file.path) for file in files],
            )

    def clear(self) -> None:
        """Remove the schema and all jobs of the demo's tasks. No worker that runs them may be there any more.

        Raises:
            psycopg.errors.LockNotAvailable: Somebody looks into the schema in a transaction that stays open.
        """
        # The schema first: a task that still runs, in a worker that has lost its supervisor, adds no job without it.
        with self._connection.transaction():
            self._execute("set local lock_timeout to '15s'")
            self._execute("drop schema if exists {demo} cascade")
        self._execute(
            """
            select {gw}.force_unlock_workers(array(
              select distinct locked_by from {gw}.jobs where task_identifier = any(%s) and locked_by is not null
            ))
            """,
            list(TASKS),
        )
        self._execute(
            "select from {gw}.complete_jobs(array(select id from {gw}.jobs where task_identifier = any(%s)))",
            list(TASKS),
        )

    def progress(self) -> Progress:
        """Return how far the work has come."""
        [(indexed, runs, waiting, failed)] = self._rows(
            """
            select
              (select count(*) from {demo}.modules where indexed_at is not null),
              (select count(*) from {demo}.runs),
              count(*) filter (where attempts < max_attempts or locked_at is not null),
              count(*) filter (where attempts >= max_attempts and locked_at is null)
            from {gw}.jobs where task_identifier = any(%s)
            """,
            list(TASKS),
        )
        return Progress(indexed, runs, waiting, failed)

    def results(self) -> Results:
        """Return what the tasks have found.

        Raises:
            PgtasksError: They found nothing.
        """
        found = self._rows("select summary from {demo}.summaries order by job_id desc limit 1")
        if not found:
            reasons = "; ".join({failure.last_error for failure in self._failures()})
            raise PgtasksError(f"no file was indexed: {reasons or 'no job has run'}")
        [(summary,)] = found
        modules, lines, functions, classes = summary["totals"]
        shares = self._shares()
        [(seconds, timed_jobs)] = self._rows(
            """
            select
              extract(epoch from ended.at - min(runs.started_at))::float8,
              count(*) filter (where runs.started_at < ended.at)
            from {demo}.runs
            cross join (select max(indexed_at) as at from {demo}.modules) as ended
            group by ended.at
            """
        )
        return Results(
            modules=modules,
            lines=lines,
            functions=functions,
            classes=classes,
            largest=[tuple(row) for row in summary["largest"]],
            most_imported=[tuple(row) for row in summary["most_imported"]],
            shares=shares,
            seconds=seconds,
            timed_jobs=timed_jobs,
            failures=self._failures(),
            summaries_asked_for=sum(share.linked for share in shares),
        )

    def _shares(self) -> list[Share]:
        rows = self._rows(
            """
            select
              pid,
              count(*) filter (where task = %s),
              count(*) filter (where task = %s),
              count(*) filter (where task = %s)
            from {demo}.runs group by pid order by pid
            """,
            demo_parse_file.name,
            demo_link_imports.name,
            demo_summarize.name,
        )
        return [Share(*row) for row in rows]

    def _failures(self) -> list[Failure]:
        rows = self._rows(
            """
            select coalesce(files.path, jobs.task_identifier), jobs.attempts, coalesce(jobs.last_error, '')
            from {gw}.jobs
            left join (
              {demo}.runs join {demo}.files on files.id = runs.file_id
            ) on runs.job_id = jobs.id and runs.attempt = jobs.attempts
            where jobs.task_identifier = any(%s) and jobs.attempts >= jobs.max_attempts and jobs.locked_at is null
            order by jobs.id
            """,
            list(TASKS),
        )
        return [Failure(path, attempts, error.partition("\n")[0]) for path, attempts, error in rows]

    def _rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        return self._execute(query, *parameters).fetchall()

    def _execute(self, query: LiteralString, *parameters: object, **names: sql.Composable) -> psycopg.Cursor[Any]:
        composed = sql.SQL(query).format(gw=self._queue, demo=sql.Identifier(SCHEMA), **names)
        return self._connection.execute(composed, parameters or None)
