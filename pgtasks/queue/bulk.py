"""Adding any number of jobs in one transaction.

What is to be sent is made here, batch by batch, so that only one of them is in memory. Who takes the jobs from the
caller and sends the statements, from blocking or from asyncio code, is `pgtasks.adding`.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgtasks import codec
from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.errors import JobOptionError
from pgtasks.job import Job, JobSpec
from pgtasks.queue.rows import AddedJobs, job_from_row

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from pgtasks.database import Row
    from pgtasks.queue.enqueue import Names
    from pgtasks.sql import Statements

BATCH_JOBS: Final = 10_000
"""How many jobs are sent with one statement."""
BATCH_CHARACTERS: Final = 4 * 2**20
"""How much JSON is sent with one statement, if that comes first."""
GROUP_JOBS: Final = 100
"""The most jobs that are taken from the caller at a time."""

_EMPTY: Final[dict[str, Any]] = {}
"""What stands for no payload."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that is to be run."""

    operation: Operation[Any]
    alone: bool
    """Whether it stands by itself, or belongs to the transaction that the other statements of the call share."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the call is to return."""

    value: Sequence[Job] | int


Steps = Generator[int | Statement | Result, Any, None]
"""What is needed next: that many jobs of the caller's (fewer at the end, then none), or the result of a statement; and
last the result of it all."""


def add_many(
    sql: Statements, template: JobSpec | None, *, notify: bool, returning: bool, own_transaction: bool
) -> Steps:
    """Add jobs that are given as specs, or as payloads of jobs that are otherwise like `template`.

    Args:
        sql: the statements.
        template: what goes with a payload; all specs must be of its task. None: there are specs only, of any tasks.
        notify: whether workers are told.
        returning: whether to return the jobs, or only how many.
        own_transaction: whether the transaction begins and ends with the call.

    Raises:
        JobOptionError: a job is not what it may be, or the specs differ in their job key mode.
        PayloadError: JSON cannot hold one of the payloads.
    """
    call = _Call(sql, Rules(template), notify=notify, returning=returning)
    jobs = yield 1
    taken = 0
    while jobs:
        batch = _Batch(call.rules, taken)
        while jobs and not batch.is_full:
            batch.take(jobs)
            jobs = yield batch.group_size
        taken += len(batch.specs)
        last = not jobs
        only = last and batch.start == 0

        if only or not (batch.keyed or call.has_staged):
            if batch.start == 0 and own_transaction and not only:
                yield Statement(call.register_names(batch), alone=True)
            result = yield Statement(call.add(batch, register=only, last=last), alone=only)
            if result is not None:
                call.accept(batch, result)
                continue
        # Names and keys would be locked batch by batch, in whatever order they come, and two calls could each have what
        # the other is waiting for. So from the first batch on that needs such a lock, all is kept for the end.
        yield Statement(call.stage(batch), alone=False)
    if call.has_staged:
        call.accept_staged((yield Statement(call.add_staged(), alone=False)))
    yield Result(call.jobs if returning else call.count)


@dataclass(slots=True)
class Rules:
    """What the jobs of one call have to agree in."""

    template: JobSpec | None
    key_mode: str | None = None

    def spec_of(self, job: Any, number: int) -> JobSpec:
        """Return the spec of what was given as the job of this number, or raise."""
        template = self.template
        if not isinstance(job, JobSpec):
            if template is None:
                raise JobOptionError(
                    f"add_jobs takes objects of JobSpec, not {type(job).__name__} (number {number} of the jobs to add)"
                )
            return template
        if template is not None and job.task != template.task:
            raise JobOptionError(
                f"defer_many of task {template.task!r} was given a spec of task {job.task!r}; "
                f"use App.add_jobs for jobs of several tasks"
            )
        if job.job_key is not None:
            self._check_mode(job.job_key_mode or "replace")
        return job

    def _check_mode(self, mode: str) -> None:
        if mode == "unsafe_dedupe":
            raise JobOptionError("job_key_mode='unsafe_dedupe' is only available for one job at a time: use defer")
        if self.key_mode not in (None, mode):
            raise JobOptionError("jobs that are added together share one job_key_mode; add them in two calls")
        self.key_mode = mode


class _Batch:
    """Jobs that are sent with one statement."""

    def __init__(self, rules: Rules, start: int) -> None:
        self.start = start
        """How many jobs of the call came before."""
        self.specs: list[JobSpec] = []
        self.payloads: list[str] = []
        """As JSON, one for each spec."""
        self.keyed = False
        self._alike = True
        self._rules = rules
        self._characters = 0

    @property
    def is_full(self) -> bool:
        return self._characters >= BATCH_CHARACTERS or len(self.payloads) >= BATCH_JOBS

    @property
    def group_size(self) -> int:
        """How many jobs to take next: fewer where they are large."""
        average = self._characters // len(self.payloads)
        return min(GROUP_JOBS, 1 + BATCH_CHARACTERS // GROUP_JOBS // (1 + average))

    def take(self, jobs: list[Any]) -> None:
        start = self.start + len(self.specs)
        template = self._rules.template
        if template is None or any(isinstance(job, JobSpec) for job in jobs):
            specs = [self._rules.spec_of(job, number) for number, job in enumerate(jobs, start)]
            jobs = [job.payload if isinstance(job, JobSpec) else job for job in jobs]
            self._alike = False
            self.keyed = self.keyed or any(spec.job_key is not None for spec in specs)
        else:
            specs = [template] * len(jobs)
        payloads = [_EMPTY if job is None else job for job in jobs]
        texts = codec.encode_each(payloads)
        if texts is None:
            texts = [
                codec.encode(payload, f"payload of task {spec.task!r} (number {number} of the jobs to add)")
                for number, (spec, payload) in enumerate(zip(specs, payloads, strict=True), start)
            ]
        self.specs += specs
        self.payloads += texts
        self._characters += sum(map(len, texts))

    def wire(self) -> tuple[str, str, str]:
        """Return the arguments of `_pgtasks_read_specs`."""
        specs = self.specs[:1] if self._alike else self.specs
        common: dict[str, Any] = {}
        each: dict[str, list[Any]] = {}
        names: dict[str, list[Any]] = {
            "task": [spec.task for spec in specs],
            "queue": [spec.queue for spec in specs],
        }
        for name, column in names.items():
            known = [value for value in dict.fromkeys(column) if value is not None]
            common[name + "s"] = known
            if not _is_uniform(column):
                numbers = {value: number for number, value in enumerate(known, 1)}
                each[name] = [numbers.get(value) for value in column]
        options: dict[str, list[Any]] = {
            "run_at": [None if spec.run_at is None else str(spec.run_at) for spec in specs],
            "delay": [spec.delay_seconds for spec in specs],
            "max_attempts": [spec.max_attempts for spec in specs],
            "priority": [spec.priority for spec in specs],
            "flags": [dict.fromkeys(spec.flags, True) if spec.flags else None for spec in specs],
        }
        for name, column in options.items():
            if not _is_uniform(column):
                each[name] = column
            elif column[0] is not None:
                common[name] = column[0]
        if self.keyed:
            each["job_key"] = [spec.job_key for spec in specs]
        return codec.encode(common), codec.encode(each), f"[{','.join(self.payloads)}]"


@dataclass(slots=True)
class _Call:
    """One call, and what has come of it so far."""

    sql: Statements
    rules: Rules
    notify: bool
    returning: bool
    count: int = 0
    jobs: AddedJobs = field(default_factory=AddedJobs)
    _call_id: uuid.UUID = field(default_factory=uuid.uuid4)
    _batches_staged: int = 0
    _names_staged: dict[Hashable, Names] = field(default_factory=dict)

    @property
    def has_staged(self) -> bool:
        return self._batches_staged > 0

    def register_names(self, batch: _Batch) -> Operation[None]:
        tasks = {spec.task for spec in batch.specs}
        queues = {spec.queue for spec in batch.specs if spec.queue is not None}
        return self._operation("register_names", (list(tasks), list(queues)), _none)

    def add(self, batch: _Batch, *, register: bool, last: bool) -> Operation[Any]:
        """Add a batch at once. The result is None if its names are not known, and were not to be registered."""
        announce = self.count if self.notify and last else None
        if batch.keyed:
            name = "add_specs" if self.returning else "count_specs"
            return self._operation(name, (*batch.wire(), self._preserve_run_at, announce), list)
        return self._operation("add_unkeyed", (*batch.wire(), register, self.returning, announce), _unkeyed)

    def accept(self, batch: _Batch, result: Any) -> None:
        """Take note of what was added."""
        if batch.keyed:
            self._take_rows(result, _names_by_key({}, batch))
            return
        added, ids, now = result
        self.count += added
        if self.returning:
            self.jobs.extend_unkeyed(ids, batch.specs, batch.payloads, now)

    def stage(self, batch: _Batch) -> Operation[None]:
        """Send a batch, to be added with the last statement."""
        if self.returning:
            _names_by_key(self._names_staged, batch)
        self._batches_staged += 1
        return self._operation("stage_specs", (self._call_id, self._batches_staged, *batch.wire()), _none)

    def add_staged(self) -> Operation[list[Row]]:
        name = "add_staged_specs" if self.returning else "count_staged_specs"
        announce = self.count if self.notify else None
        return self._operation(name, (self._call_id, self._preserve_run_at, announce), list)

    def accept_staged(self, rows: list[Row]) -> None:
        self._take_rows(rows, self._names_staged)

    @property
    def _preserve_run_at(self) -> bool:
        return self.rules.key_mode == "preserve_run_at"

    def _take_rows(self, rows: list[Row], names: dict[Hashable, Names]) -> None:
        if self.returning:
            self.count += len(rows)
            self.jobs.extend([job_from_row(row, *named) for row, named in zip(rows, names.values(), strict=True)])
        else:
            self.count += rows[0][0]

    def _operation(self, name: str, parameters: tuple[Any, ...], decode: Any) -> Operation[Any]:
        return Operation(name, self.sql.get(name), parameters, decode, UNREAD_TIMES)


def _names_by_key(names: dict[Hashable, Names], batch: _Batch) -> dict[Hashable, Names]:
    """Add the names of the resulting jobs to `names`, in the order in which the database returns these jobs.

    That is the order in which specs first name them; of specs with the same key, the last one tells the names.
    """
    for number, spec in enumerate(batch.specs, batch.start):
        names[number if spec.job_key is None else spec.job_key] = (spec.task, spec.queue)
    return names


def _is_uniform(column: list[Any]) -> bool:
    return column.count(column[0]) == len(column)


def _unkeyed(rows: list[Row]) -> Row | None:
    return None if rows[0][0] is None else rows[0]


def _none(_: list[Row]) -> None:
    return None
