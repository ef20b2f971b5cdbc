"""A queue in a database, as any client sees it: its functions called by name, its rows as dicts."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Row = dict[str, Any]
Result = TypeVar("Result")

_SPEC = "row(%s::text, %s::json, %s::text, %s::timestamptz, %s::smallint, %s::text, %s::smallint, %s::text[])"
_SPEC_FIELDS = ("identifier", "payload", "queue_name", "run_at", "max_attempts", "job_key", "priority", "flags")


class Queue:
    """The queue of one schema, over one connection. JSON comes back as the text that is stored."""

    def __init__(self, conn: psycopg.Connection[Any], schema: str) -> None:
        self.conn = conn
        self.schema = schema
        self.name = sql.Identifier(schema).as_string()
        self.pid = conn.info.backend_pid
        self._notes: list[Any] = []
        conn.adapters.register_loader("json", TextLoader)
        conn.add_notify_handler(lambda note: self._notes.append(note.payload))

    @contextmanager
    def another(self) -> Iterator[Queue]:
        """The same queue in a session of its own."""
        with psycopg.connect(self.conn.info.dsn, autocommit=True) as conn:
            yield Queue(conn, self.schema)

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """Run a query in which `{gw}` stands for the schema."""
        with self.conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute(query.replace("{gw}", self.name).encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def row(self, query: str, *parameters: object) -> Row:
        [found] = self.rows(query, *parameters)
        return found

    def value(self, query: str, *parameters: object) -> Any:
        [found] = self.row(query, *parameters).values()
        return found

    def values(self, query: str, *parameters: object) -> list[Any]:
        return [next(iter(found.values())) for found in self.rows(query, *parameters)]

    def run(self, query: str, *parameters: object) -> None:
        self.rows(query, *parameters)

    # Functions

    def add_job(self, identifier: str | None = "send", **options: object) -> Row:
        named = "".join(f", {name} := %s" for name in options)
        return self.row(f"select * from {{gw}}.add_job(%s{named})", identifier, *options.values())

    def add(self, identifier: str = "send", **options: object) -> int:
        """Add a job and return its id."""
        added: int = self.add_job(identifier, **options)["id"]
        return added

    def add_jobs(self, *specs: Row, job_key_preserve_run_at: bool = False) -> list[Row]:
        given = [{"identifier": "send", **spec} for spec in specs]
        assert all(spec.keys() <= set(_SPEC_FIELDS) for spec in given)
        rows = ", ".join(f"{_SPEC}::{{gw}}.job_spec" for _ in given)
        parameters = [spec.get(field) for spec in given for field in _SPEC_FIELDS]
        return self.rows(
            f"select * from {{gw}}.add_jobs(array[{rows}]::{{gw}}.job_spec[], %s)",
            *parameters,
            job_key_preserve_run_at,
        )

    def add_unkeyed(self, *specs: Row) -> int:
        """Add jobs as `App.add_jobs` does, each with an `identifier` and a `queue_name`, and return how many."""
        tasks = [spec.get("identifier", "send") for spec in specs]
        queues = [spec.get("queue_name") for spec in specs]
        known = {"tasks": list(dict.fromkeys(tasks)), "queues": [name for name in dict.fromkeys(queues) if name]}
        each = {
            "task": [known["tasks"].index(name) + 1 for name in tasks],
            "queue": [known["queues"].index(name) + 1 if name else None for name in queues],
        }
        added: int = self.value(
            "select added from {gw}._pgtasks_add_unkeyed(%s::json, %s::json, %s::json, true, false, null)",
            *map(json.dumps, (known, each, [{}] * len(specs))),
        )
        return added

    def claim(
        self,
        tasks: Sequence[str] = ("send",),
        *,
        limit: int = 100,
        free_slots: int | None = None,
        forbidden: Sequence[str] = (),
        worker: str = "worker",
        marks: Sequence[Row] | None = None,
        forbidden_queues: Sequence[str] | None = None,
    ) -> list[Row]:
        """Claim jobs; given `marks`, rows of jobs, only such as come after one of these with the same priority.

        Without `forbidden_queues` it calls as a worker does that does not know of them.
        """
        epoch, micro = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
        rows = self.rows(
            "select * from {gw}._pgtasks_claim_jobs(%s::text, %s::text[], %s::text[], %s::integer, %s::integer,"
            f" %s::smallint[], %s::bigint[], %s::bigint[]{'' if forbidden_queues is None else ', %s::text[]'})",
            worker,
            list(tasks),
            list(forbidden),
            limit,
            limit if free_slots is None else free_slots,
            None if marks is None else [mark["priority"] for mark in marks],
            None if marks is None else [(mark["run_at"] - epoch) // micro for mark in marks],
            None if marks is None else [mark["id"] for mark in marks],
            *([] if forbidden_queues is None else [list(forbidden_queues)]),
        )
        found = [{name: value for name, value in row.items() if name != "look_seconds"} for row in rows]
        return [] if [row["id"] for row in found] == [None] else found

    def has_runnable(
        self,
        tasks: Sequence[str] = ("send",),
        forbidden: Sequence[str] = (),
        forbidden_queues: Sequence[str] | None = None,
    ) -> bool:
        found: bool = self.value(
            f"select {{gw}}._pgtasks_has_runnable(%s::text[], %s::text[]{'' if forbidden_queues is None else ', %s'})",
            list(tasks),
            list(forbidden),
            *([] if forbidden_queues is None else [list(forbidden_queues)]),
        )
        return found

    def finish_successes(self, *claims: Row, worker: str = "worker") -> list[int]:
        """Delete jobs that have succeeded and return the ids of those that were not deleted."""
        micros = "(extract(epoch from claim.at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint"
        left: list[int] | None = self.value(
            "select {gw}._pgtasks_finish_successes(%s, %s, "
            f"array(select {micros} from unnest(%s::timestamptz[]) with ordinality as claim (at, n) order by n))",
            worker,
            [claim["id"] for claim in claims],
            [claim["locked_at"] for claim in claims],
        )
        return left or []

    def advance(
        self, *claims: Row, tasks: Sequence[str] = ("send",), forbidden: Sequence[str] = (), worker: str = "worker"
    ) -> tuple[list[int], list[Row]]:
        """End jobs of queues; returns the ids of those that were deleted, and the jobs that were taken."""
        micros = "(extract(epoch from claim.at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint"
        rows = self.rows(
            "select * from {gw}._pgtasks_advance_queues(%s, %s, %s, %s, "
            f"array(select {micros} from unnest(%s::timestamptz[]) with ordinality as claim (at, n) order by n))",
            worker,
            list(tasks),
            list(forbidden),
            [claim["id"] for claim in claims],
            [claim["locked_at"] for claim in claims],
        )
        assert sorted(row["ended_id"] for row in rows) == sorted(claim["id"] for claim in claims)
        taken = [
            {name: value for name, value in row.items() if name not in ("ended_id", "ended")}
            for row in rows
            if row["id"] is not None
        ]
        return [row["ended_id"] for row in rows if row["ended"]], taken

    def finish_as_workers_do(self, *ends: Row, worker: str = "worker") -> dict[int, str]:
        """Finish claims: successes at once, and then the others, and what was left of these."""
        done = [end for end in ends if end["outcome"] == "success"]
        left = self.finish_successes(*done, worker=worker)
        states = {end["id"]: "deleted" for end in done if end["id"] not in left}
        others = [end for end in ends if end["id"] not in states]
        return states | self.finish(*others, worker=worker, wait_for_locks=False)

    def finish(self, *ends: Row, worker: str = "worker", wait_for_locks: bool = True) -> dict[int, str]:
        """Finish claims and return the states by id.

        Each end has the `id` and `locked_at` of the claim, an `outcome`, and may have `last_error`, `delay`, `payload`
        and `had_key`.
        """
        fields = ("id", "locked_at", "outcome", "last_error", "delay", "payload", "had_key")
        states = self.rows(
            "select * from {gw}._pgtasks_finish_jobs(%s::text, %s::bigint[], %s::timestamptz[], %s::text[], "
            "%s::text[], %s::double precision[], %s::json[], %s::boolean[], wait_for_locks => %s)",
            worker,
            *([end.get(field) for end in ends] for field in fields),
            wait_for_locks,
        )
        assert len({row["id"] for row in states}) == len(states)
        return {row["id"]: row["state"] for row in states}

    # Rows

    def job(self, job_id: int) -> Row:
        return self.row("select * from {gw}._private_jobs where id = %s", job_id)

    def job_ids(self) -> list[int]:
        return self.values("select id from {gw}._private_jobs order by id")

    def exists(self, job_id: int) -> bool:
        return job_id in self.job_ids()

    def queue(self, queue_name: str) -> Row:
        return self.row("select * from {gw}._private_job_queues where queue_name = %s", queue_name)

    def lock(self, job_id: int, worker: str = "somebody", age: str = "0 seconds") -> None:
        """Lock a job and its queue as a reference worker does."""
        self.run(
            "update {gw}._private_job_queues set locked_at = now() - %s::interval, locked_by = %s "
            "where id = (select job_queue_id from {gw}._private_jobs where id = %s)",
            age,
            worker,
            job_id,
        )
        self.run(
            "update {gw}._private_jobs set attempts = attempts + 1, locked_at = now() - %s::interval, locked_by = %s "
            "where id = %s",
            age,
            worker,
            job_id,
        )

    def set(self, job_id: int, **columns: object) -> None:
        changes = ", ".join(f"{column} = %s" for column in columns)
        self.run(f"update {{gw}}._private_jobs set {changes} where id = %s", *columns.values(), job_id)

    # Notifications

    def listen(self) -> None:
        self.run('listen "jobs:insert"')

    def counts_heard(self) -> list[int]:
        """Return the counts of the notifications since the last call (or since `listen`)."""
        self.run("select 1")  # the session's own notifications are delivered before it takes the next statement
        heard = [self.value("select (%s::json ->> 'count')::integer", note) for note in self._notes]
        self._notes.clear()
        return heard


class Background(Generic[Result]):
    """A call that runs in a thread while the test does something else."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error

    def result(self, timeout: float = 100.0) -> Result:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the call did not end"
        if self._error is not None:
            raise self._error
        return self._results[0]


def wait_until_blocked(observer: Queue, blocked: Queue, *, by: Queue | None = None) -> None:
    """Return once the session of `blocked` waits for a lock that another session, or a certain one, holds."""
    blockers = "select pg_blocking_pids(%s)"
    wait_until(
        lambda: by.pid in observer.value(blockers, blocked.pid) if by else observer.value(blockers, blocked.pid),
        what=f"session {blocked.pid} to wait for a lock",
    )
