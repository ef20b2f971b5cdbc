"""Jobs and their ends, as hooks are given them, without a database."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any, Final

from pgtasks import codec
from pgtasks.hookdata import JobEnd
from pgtasks.job import Job

_ids: Final = itertools.count(1)


def make_job(task: str, payload: Any = None, /, **fields: Any) -> Job:
    """Return a job as a worker has just claimed it: on its first attempt of 25, without a queue, a key or flags.

    Args:
        task: the name of its task.
        payload: its payload; an empty object by default.
        fields: any fields of `Job` that are to be others.

    Examples:
        >>> job = make_job("charge", {"customer": "ada"}, attempts=3)
        >>> job.payload, job.attempts, job.max_attempts
        ({'customer': 'ada'}, 3, 25)
    """
    now = dt.datetime.now(dt.UTC)
    usual = {
        "id": next(_ids),
        "queue": None,
        "payload_json": codec.encode({} if payload is None else payload),
        "priority": 0,
        "run_at": now,
        "attempts": 1,
        "max_attempts": 25,
        "last_error": None,
        "created_at": now,
        "updated_at": now,
        "key": None,
        "locked_at": now,
        "locked_by": "pgtasks-testing",
        "revision": 0,
    }
    return Job(task=task, **{**usual, **fields})


def make_end(job: Job, exception: BaseException | None = None, /, **fields: Any) -> JobEnd:
    """Return the end of a job: a success, or with an exception a permanent failure.

    Args:
        job: the job.
        exception: what its handler has raised.
        fields: any fields of `JobEnd` that are to be others.

    Examples:
        >>> end = make_end(make_job("charge"), ValueError("no such customer"))
        >>> end.state, end.error
        ('failed', 'ValueError: no such customer')
    """
    if exception is None:
        usual: dict[str, Any] = {"outcome": "success", "state": "deleted"}
    else:
        usual = {
            "outcome": "retry",
            "state": "failed",
            "error": f"{type(exception).__name__}: {exception}",
            "exception": exception,
        }
    return JobEnd(job=job, **{"seconds": 0.01, **usual, **fields})
