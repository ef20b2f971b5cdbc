"""Random calls of the SQL functions leave, return and send what the model says. `tests.sql.properties` runs more."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.servers import NEWEST, versions
from tests.sql import model
from tests.sql.model import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.sql.queue import Queue, Row

# Few of everything, so that calls meet each other's jobs.
WORKERS = ["worker", "another"]
DOOMED = "doomed"  # may be retired
TASKS = ["send", "resize"]
QUEUES = ["q", 'odd "queue"']
KEYS = ["a", "b", "é" * 512]
FLAGS = ["f", "g"]
PAYLOADS = [
    "{}",
    '{"a": {"b": [1, 2.50, null]}, "a": "\\u0000"}',
    "[]",
    " [ ] ",
    '[1,"x"]',
    '\n[{"n": 123456789012345678901234567890}, [[]], 1e400, "\\ud800"]\t',
    '["]", "\\u0000", 1.10]',
    '"[]"',
    '"text"',
    "null",
    "-0.0",
]
TIMES = [datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 1, 2, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
OUTCOMES = ["success", "retry", "fail", "snooze", "return"]
DEFECTS: list[dict[str, Any]] = [
    {"identifier": "x" * 129},
    {"queue_name": "x" * 129},
    {"job_key": ""},
    {"job_key": "x" * 513},
    {"max_attempts": 0, "job_key": None},
    {"max_attempts": 2**15},
    {"priority": 2**15},
    {"priority": -(2**15) - 1},
]
IDENTITY_VALUES = """
select
  case when tasks.is_called then tasks.last_value else 0 end as tasks,
  case when queues.is_called then queues.last_value else 0 end as queues
from {gw}.tasks_id_seq as tasks, {gw}.job_queues_id_seq as queues
"""


def maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


def some(values: Sequence[Any], max_size: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), max_size=max_size, unique=True)


specs = st.builds(
    Spec,
    identifier=st.sampled_from(TASKS),
    payload=maybe(PAYLOADS),
    queue_name=maybe(QUEUES),
    run_at=maybe(TIMES),
    max_attempts=maybe([1, 2, 3]),
    job_key=maybe(KEYS),
    priority=maybe([-1, 1]),
    flags=st.sampled_from([None, None, (), ("f",), ("g", "f", "f")]),
)
workers = st.sampled_from([*WORKERS, DOOMED])
modes = st.sampled_from([None, *model.MODES])
# Positions of jobs among those that there are; behind the last one there is none.
positions = st.lists(st.integers(0, 9), max_size=5)


class QueueMachine(RuleBasedStateMachine):
    """A queue and its model. `done` counts over all runs what was done."""

    def __init__(self, queue: Queue, notes: list[str], done: Counter[str]) -> None:
        super().__init__()
        self.queue = queue
        self.notes = notes
        self.done = done
        self.state = model.State()
        self.claims: list[Row] = []  # of all times, so that ends come late too
        self.lost_ids = (0, 0)  # identity values of tasks and queues that were used up by calls that failed
        queue.run(
            "truncate {gw}._private_jobs, {gw}._private_job_queues, {gw}._private_tasks, {gw}._pgtasks_workers "
            "restart identity"
        )
        notes.clear()

    # Adding

    @rule(spec=specs, mode=modes)
    def add_job(self, spec: Spec, mode: str | None) -> None:
        self._add_job(spec, mode)

    @rule(spec=specs, mode=modes, key=st.sampled_from(KEYS[:2]))
    def add_job_with_key(self, spec: Spec, mode: str | None, key: str) -> None:
        self._add_job(_with(spec, job_key=key), mode)

    @rule(spec=specs, mode=modes, defect=st.sampled_from(DEFECTS))
    def add_job_badly(self, spec: Spec, mode: str | None, defect: dict[str, Any]) -> None:
        self._add_job(_with(spec, **defect), mode)

    @rule(spec=specs)
    def add_job_in_a_mode_that_is_none(self, spec: Spec) -> None:
        self._add_job(spec, "dedupe")

    def _add_job(self, spec: Spec, mode: str | None) -> None:
        self._adds(
            lambda state, now, ids: model.add_job(state, spec, mode, now, ids),
            "{gw}.add_job(identifier := %s::text, payload := %s::json, queue_name := %s::text, "
            "run_at := %s::timestamptz, max_attempts := %s::integer, job_key := %s::text, priority := %s::integer, "
            "flags := %s::text[], job_key_mode := %s::text)",
            *_fields(spec),
            mode,
        )

    @rule(given=st.lists(specs, max_size=5), preserve=st.booleans())
    def add_jobs(self, given: list[Spec], preserve: bool) -> None:
        rows = ", ".join("row(%s, %s, %s, %s, %s, %s, %s, %s::text[])" for _ in given)
        self._adds(
            lambda state, now, ids: model.add_jobs(state, given, preserve, now, ids),
            f"{{gw}}.add_jobs(specs := array[{rows}]::{{gw}}.job_spec[], job_key_preserve_run_at := %s)",
            *(value for spec in given for value in _fields(spec)),
            preserve,
        )

    def _adds(
        self, modelled: Callable[[model.State, datetime, Iterator[int]], model.Answer], call: str, *parameters: object
    ) -> None:
        after = self.state.copy()
        try:
            now, rows = self._call(call, *parameters)
        except psycopg.DatabaseError as error:
            with pytest.raises(model.RefusedError) as refused:
                modelled(after, datetime.now(UTC), itertools.count(10**12))
            assert refused.value.sqlstate == error.sqlstate  # noqa: PT017 - not every call fails
            self._agree(refused=True)
            return
        new_ids = sorted(row["id"] for row in rows if row["id"] not in self.state.jobs)
        assert not new_ids or new_ids[0] > max(self.state.jobs, default=0)
        answer = modelled(after, now, iter(new_ids))
        self.state = after
        self._agree(rows, answer.rows, answer.counts)

    # Removing, and the functions for administrators

    @rule(key=maybe(KEYS))
    def remove_job(self, key: str | None) -> None:
        now, rows = self._call("{gw}.remove_job(job_key := %s::text)", key)
        answer = model.remove_job(self.state, key, now)
        self._agree(rows, answer.rows, answer.counts)

    @rule(picked=positions)
    def complete_jobs(self, picked: list[int]) -> None:
        ids = self._ids(picked)
        now, rows = self._call("{gw}.complete_jobs(job_ids := %s::bigint[])", ids)
        self._agree_in_any_order(rows, model.complete_jobs(self.state, ids, now))

    @rule(picked=positions, message=maybe(["broke", ""]))
    def permanently_fail_jobs(self, picked: list[int], message: str | None) -> None:
        ids = self._ids(picked)
        now, rows = self._call(
            "{gw}.permanently_fail_jobs(job_ids := %s::bigint[], error_message := %s::text)", ids, message
        )
        self._agree_in_any_order(rows, model.permanently_fail_jobs(self.state, ids, message, now))

    @rule(
        picked=positions,
        run_at=maybe(TIMES),
        priority=maybe([-1, 0, 2]),
        attempts=maybe([0, 1, 5]),
        max_attempts=maybe([1, 4]),
    )
    def reschedule_jobs(
        self,
        picked: list[int],
        run_at: datetime | None,
        priority: int | None,
        attempts: int | None,
        max_attempts: int | None,
    ) -> None:
        ids = self._ids(picked)
        now, rows = self._call(
            "{gw}.reschedule_jobs(job_ids := %s::bigint[], run_at := %s::timestamptz, priority := %s::integer, "
            "attempts := %s::integer, max_attempts := %s::integer)",
            ids,
            run_at,
            priority,
            attempts,
            max_attempts,
        )
        answer = model.reschedule_jobs(self.state, ids, run_at, priority, attempts, max_attempts, now)
        self._agree_in_any_order(rows, answer)

    @rule(names=some([*WORKERS, DOOMED, "unknown"]))
    def force_unlock_workers(self, names: list[str]) -> None:
        self._call("{gw}.force_unlock_workers(worker_ids := %s::text[])", names)
        model.force_unlock_workers(self.state, names)
        self._agree()

    # Workers

    @rule(
        worker=workers,
        tasks=some([*TASKS, "unknown"], 3),
        forbidden=some(FLAGS),
        max_jobs=st.integers(0, 4),
        free_slots=st.integers(0, 4),
        queues=some([*QUEUES, "unknown"]),
    )
    def claim_jobs(
        self, worker: str, tasks: list[str], forbidden: list[str], max_jobs: int, free_slots: int, queues: list[str]
    ) -> None:
        self._claim(worker, tasks, forbidden, max_jobs, free_slots, queues)

    @rule(worker=workers, max_jobs=st.integers(1, 9))
    def claim_jobs_of_all_kinds(self, worker: str, max_jobs: int) -> None:
        self._claim(worker, TASKS, [], max_jobs, max_jobs, [])

    def _claim(
        self, worker: str, tasks: list[str], forbidden: list[str], max_jobs: int, free_slots: int, queues: list[str]
    ) -> None:
        try:
            now, rows = self._call(
                "{gw}._pgtasks_claim_jobs("
                "%s::text, %s::text[], %s::text[], %s::integer, %s::integer, forbidden_queues := %s::text[])",
                worker,
                tasks,
                forbidden,
                max_jobs,
                free_slots,
                queues,
            )
        except psycopg.DatabaseError as error:
            with pytest.raises(model.RefusedError, match=error.sqlstate):
                model.claim_jobs(self.state, worker, tasks, forbidden, max_jobs, free_slots, datetime.now(UTC))
            self._agree()
            return
        answer = model.claim_jobs(self.state, worker, tasks, forbidden, max_jobs, free_slots, now, queues)
        for row in rows:
            assert row.pop("look_seconds") > 0 or max_jobs < 1
        if [row["id"] for row in rows] == [None]:
            rows = []
        self.claims += rows
        self._agree(rows, answer.rows)

    @rule(tasks=some([*TASKS, "unknown"], 3), forbidden=some(FLAGS), queues=some([*QUEUES, "unknown"]))
    def has_runnable(self, tasks: list[str], forbidden: list[str], queues: list[str]) -> None:
        call = "{gw}._pgtasks_has_runnable(%s::text[], %s::text[], %s::text[])"
        now, rows = self._call(call, tasks, forbidden, queues)
        assert rows == [{"answer": bool(model.eligible(self.state, tasks, forbidden, now, queues))}]
        self._agree()

    @rule(
        worker=workers,
        ends=st.lists(
            st.tuples(
                st.integers(0, 7),
                st.sampled_from(OUTCOMES),
                maybe(["broke"]),
                maybe([0.0, -5.0, 90.5, 1e300]),
                maybe(PAYLOADS),
                st.booleans(),
            ),
            max_size=4,
            unique_by=lambda end: end[0],
        ),
        wait=st.booleans(),
    )
    def finish_jobs(self, worker: str, ends: list[tuple[Any, ...]], wait: bool) -> None:
        """The latest claims come first; some of these were lost or have ended before."""
        latest = [claim for claim in reversed(self.claims) if claim["locked_by"] == worker]
        given = [
            model.End(
                latest[position]["id"],
                latest[position]["locked_at"],
                outcome,
                last_error,
                delay,
                payload,
                latest[position]["key"] is not None if knows_key else None,
            )
            for position, outcome, last_error, delay, payload, knows_key in ends
            if position < len(latest)
        ]
        now, rows = self._call(
            "{gw}._pgtasks_finish_jobs(%s::text, %s::bigint[], %s::timestamptz[], %s::text[], %s::text[], "
            "%s::double precision[], %s::json[], %s::boolean[], %s)",
            worker,
            *(list(column) for column in zip(*given, strict=True) if given),
            *([] for _ in model.End._fields if not given),
            wait,
        )
        self._agree_on_ends(rows, model.finish_jobs(self.state, worker, given, now))

    @rule(worker=workers, picked=positions, tasks=some([*TASKS, "unknown"], 3), forbidden=some(FLAGS))
    def advance_queues(self, worker: str, picked: list[int], tasks: list[str], forbidden: list[str]) -> None:
        """The latest claims come first; some of these were lost or have ended before."""
        latest = [claim for claim in reversed(self.claims) if claim["locked_by"] == worker]
        given = {latest[n]["id"]: latest[n]["locked_at"] for n in picked if n < len(latest)}
        try:
            now, rows = self._call(
                "{gw}._pgtasks_advance_queues(%s, %s, %s, %s, array(select (extract(epoch from claim.at - timestamptz "
                "'2000-01-01 00:00:00+00') * 1000000)::bigint from unnest(%s::timestamptz[]) with ordinality as "
                "claim (at, n) order by n))",
                worker,
                tasks,
                forbidden,
                list(given),
                list(given.values()),
            )
        except psycopg.DatabaseError as error:
            with pytest.raises(model.RefusedError, match=error.sqlstate):
                model.advance_queues(self.state, worker, tasks, forbidden, list(given.items()), datetime.now(UTC))
            self._agree()
            return
        ended, answer = model.advance_queues(self.state, worker, tasks, forbidden, list(given.items()), now)
        assert sorted(row["ended_id"] for row in rows) == sorted(given)
        assert [row["ended_id"] for row in rows if row["ended"]] == ended
        taken = [
            {name: value for name, value in row.items() if name not in ("ended_id", "ended")}
            for row in rows
            if row["id"] is not None
        ]
        self.claims += taken
        self._agree_in_any_order(taken, answer)

    @rule(worker=workers, keep=positions, retire=st.booleans())
    def release_worker(self, worker: str, keep: list[int], retire: bool) -> None:
        kept, retired = self._ids(keep), retire and worker == DOOMED
        now, rows = self._call("{gw}._pgtasks_release_worker(%s::text, %s::bigint[], %s)", worker, kept, retired)
        self._agree_on_ends(rows, model.release_worker(self.state, worker, kept, retired, now))

    @rule()
    def sweep_stale_locks(self) -> None:
        now, [row] = self._call("{gw}._pgtasks_sweep_stale_locks()")
        jobs, queues, counts = model.sweep_stale_locks(self.state, now)
        assert row == {"unlocked_jobs": jobs, "unlocked_queues": queues, "restored_queues": 0}
        self._agree(counts=counts)

    # Time

    @rule(hours=st.sampled_from([1, 3, 5]))
    def pass_time(self, hours: int) -> None:
        """Also for workers: what they remember of their claims is what is stored."""
        time = timedelta(hours=hours)
        self.queue.run(
            "update {gw}._private_jobs set run_at = run_at - %s, created_at = created_at - %s, "
            "updated_at = updated_at - %s, locked_at = locked_at - %s",
            *[time] * 4,
        )
        self.queue.run(
            "update {gw}._private_job_queues set locked_at = locked_at - %s where locked_at is not null", time
        )
        for claim in self.claims:
            claim["locked_at"] -= time
        model.pass_time(self.state, time)
        self._agree()

    # Comparing

    def _call(self, call: str, *parameters: object) -> tuple[datetime, list[Row]]:
        """Call a function, and return the time of the transaction and the rows; none where all would be null."""
        rows = self.queue.rows(
            f"select now() as called_at, answer.* from (select) as one left join {call} as answer on true",
            *parameters,
        )
        times = {row.pop("called_at") for row in rows}
        return times.pop(), [row for row in rows if any(value is not None for value in row.values())]

    def _ids(self, picked: list[int]) -> list[int]:
        """Return the ids at these positions, some twice, some of no job."""
        there = list(self.state.jobs)
        return [there[position] if position < len(there) else 10**12 + position for position in picked]

    def _agree_in_any_order(self, rows: list[Row], answer: model.Answer) -> None:
        self._agree(sorted(rows, key=lambda row: row["id"]), sorted(answer.rows, key=lambda job: job.id), answer.counts)

    def _agree_on_ends(self, rows: list[Row], ended: model.Ended) -> None:
        assert len(rows) == len(ended.states)
        assert {row["id"]: row["state"] for row in rows} == ended.states
        self.done.update(f"  {state}" for state in ended.states.values())
        self._agree(counts=ended.counts)

    def _agree(
        self,
        rows: Sequence[Row] = (),
        jobs: Sequence[model.Job] = (),
        counts: Sequence[int] = (),
        refused: bool = False,
    ) -> None:
        self.done["steps"] += 1
        stored = self.queue.rows("select * from {gw}._private_jobs order by id")
        assert _sent(self.notes) == list(counts)
        queues = self.queue.rows("select * from {gw}._private_job_queues")
        tasks = {row["id"]: row["identifier"] for row in self.queue.rows("select * from {gw}._private_tasks")}
        names = {row["id"]: row["queue_name"] for row in queues}

        seen = [_seen(row, tasks, names) for row in stored]
        _assert_equal(seen, list(self.state.jobs.values()))
        _assert_equal([_seen(row, tasks, names) for row in rows], jobs)
        assert sorted(tasks.values()) == sorted(self.state.tasks)
        assert {
            row["queue_name"]: row["locked_at"] and model.Lock(row["locked_at"], row["locked_by"]) for row in queues
        } == self.state.queues
        in_flight = Counter(row["job_queue_id"] for row in stored if row["job_queue_id"] and row["locked_at"])
        assert max(in_flight.values(), default=0) <= 1

        [used] = self.queue.rows(IDENTITY_VALUES)
        if refused:  # what it registered is undone, except for the identity values
            self.lost_ids = (used["tasks"] - len(tasks), used["queues"] - len(queues))
        assert (used["tasks"] - len(tasks), used["queues"] - len(queues)) == self.lost_ids


def _with(spec: Spec, **changes: Any) -> Spec:
    return dataclasses.replace(spec, **changes)


def _fields(spec: Spec) -> list[object]:
    return [list(value) if isinstance(value, tuple) else value for value in dataclasses.astuple(spec)]


def _seen(row: Row, tasks: dict[int, str], queues: dict[int, str]) -> Row:
    """Return a row of the table, or of a claim, with names in place of ids and what its payload says."""
    seen = {**row, "payload": model.parse(row["payload"])}
    if "task_id" in seen:
        seen["task"] = tasks[seen.pop("task_id")]
        queue_id = seen.pop("job_queue_id")
        seen["queue_name"] = None if queue_id is None else queues[queue_id]
    return seen


def _expected(job: model.Job, row: Row) -> Row:
    """Return what the model says of a row."""
    at, by = job.lock or (None, None)
    expected = {
        "id": job.id,
        "task": job.task,
        "queue_name": job.queue,
        "payload": job.payload,
        "priority": job.priority,
        "run_at": job.run_at,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "last_error": job.last_error,
        "created_at": job.created_at,
        "updated_at": job.updated_at or row["updated_at"],
        "key": job.key,
        "locked_at": at,
        "locked_by": by,
        "revision": job.revision,
        "flags": dict.fromkeys(job.flags, True) or None,
    }
    return {**expected, "is_available": job.available} if "is_available" in row else expected


def _assert_equal(rows: Sequence[Row], jobs: Sequence[model.Job]) -> None:
    assert [row["id"] for row in rows] == [job.id for job in jobs]
    for row, job in zip(rows, jobs, strict=True):
        expected = _expected(job, row)
        if row != expected:
            assert {name: value for name, value in row.items() if value != expected[name]} == {
                name: value for name, value in expected.items() if value != row[name]
            }, f"job {job.id}"


def _sent(notes: list[str]) -> list[int]:
    """Return the counts of the notifications since the last look."""
    sent = [json.loads(note) for note in notes]
    notes.clear()
    assert all(note.keys() == {"r", "count"} and isinstance(note["r"], float) for note in sent)
    return [note["count"] for note in sent]


def run_machine(queue: Queue, *, seed: int | None = None, **options: Any) -> Counter[str]:
    """Run the machine on an empty queue with these settings of hypothesis, and count what was done."""
    done: Counter[str] = Counter()
    notes: list[str] = []

    class Machine(QueueMachine):
        def __init__(self) -> None:
            super().__init__(queue, notes, done)

    def note(notification: psycopg.Notify) -> None:
        notes.append(notification.payload)

    queue.listen()
    queue.conn.add_notify_handler(note)
    try:
        run_state_machine_as_test(
            Machine if seed is None else hypothesis.seed(seed)(Machine),
            settings=settings(
                database=None,
                deadline=None,
                derandomize=seed is None,
                suppress_health_check=list(HealthCheck),
                **options,
            ),
        )
    finally:
        queue.conn.remove_notify_handler(note)
    return done


@pytest.mark.parametrize(
    "server", sorted({min(versions()), NEWEST}), indirect=True, ids=lambda version: f"pg{version}", scope="session"
)
def test_the_functions_do_what_the_model_says(queue: Queue) -> None:
    done = run_machine(queue, max_examples=40, stateful_step_count=40)
    assert done["steps"] >= 1000
