"""No stored value breaks a read, and so a batch."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import pickle
from typing import TYPE_CHECKING

import pytest

from pgtasks import PayloadError
from pgtasks.database import run
from pgtasks.job import EARLIEST, EPOCH, LATEST, MICROSECOND, Job
from pgtasks.queue.claim import claim_jobs
from pgtasks.queue.rows import job_from_row
from pgtasks.sql import Statements

if TYPE_CHECKING:
    import psycopg

    from pgtasks import App

pytestmark = pytest.mark.every_postgres


def claim(connection: psycopg.Connection, schema: str) -> list[Job]:
    return run(connection, claim_jobs(Statements(schema), "w", ["t"], [], 100, 100)).jobs


@pytest.mark.parametrize(
    ("stored", "read"),
    [("-infinity", EARLIEST), ("0044-03-15 BC", EARLIEST), ("2001-02-03 04:05:06.000007+00", None)],
)
def test_any_time_can_be_claimed(
    connection: psycopg.Connection, schema: str, stored: str, read: dt.datetime | None
) -> None:
    connection.execute("select graphile_worker.add_job('t', run_at := %s)", (stored,))
    (job,) = claim(connection, schema)
    assert job.run_at == (read or dt.datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=dt.UTC))


@pytest.mark.parametrize("stored", ["infinity", "20000-01-01", "294276-12-31"])
def test_any_time_can_be_returned_by_an_add(app: App, connection: psycopg.Connection, stored: str) -> None:
    connection.execute("select graphile_worker.add_job('t', run_at := %s, job_key := 'k')", (stored,))
    assert app.add_job("t", job_key="k", job_key_mode="preserve_run_at").run_at == LATEST


@pytest.mark.parametrize("settings", ["set datestyle = 'SQL, DMY'", "set timezone = 'Asia/Kolkata'"])
def test_times_do_not_depend_on_the_sessions_settings(
    connection: psycopg.Connection, schema: str, settings: str
) -> None:
    connection.execute(settings.encode())
    connection.execute("select graphile_worker.add_job('t', run_at := '2001-02-03 04:05:06+00')")
    (job,) = claim(connection, schema)
    assert job.run_at == dt.datetime(2001, 2, 3, 4, 5, 6, tzinfo=dt.UTC)


def test_payloads_that_cannot_be_read_come_with_the_others(connection: psycopg.Connection, schema: str) -> None:
    for payload in ('"\\ud800"', '"\\u0000"', "1e400", "9" * 30, "[" + "9" * 5000 + "]", '{"ok": true}'):
        connection.execute("select graphile_worker.add_job('t', %s::json)", (payload,))
    surrogate, nul, huge, long, too_long, ok = claim(connection, schema)
    assert surrogate.payload == "\ud800"
    assert nul.payload == "\0"
    assert str(huge.payload) == "1E+400"
    assert long.payload == int("9" * 30)
    assert ok.payload == {"ok": True}
    with pytest.raises(PayloadError):
        _ = too_long.payload


def test_a_representation_shows_no_payload(connection: psycopg.Connection, schema: str) -> None:
    connection.execute("""select graphile_worker.add_job('t', '{"password": "hunter2"}')""")
    assert "hunter2" not in repr(claim(connection, schema))


def test_a_job_of_a_row_is_like_any_other() -> None:
    moment = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    micros = (moment - EPOCH) // MICROSECOND
    row = (7, '{"n": 1}', 3, micros, 2, 25, "broke", micros, micros, "k", micros, "worker", 4, b'{"b": 1, "a": 1}')
    job = job_from_row(row, "send", "q")
    made = Job(
        7, "send", "q", '{"n": 1}', 3, moment, 2, 25, "broke", moment, moment, "k", moment, "worker", 4, ("a", "b")
    )
    assert pickle.loads(pickle.dumps(job)) == job == made == copy.copy(job)
    assert dataclasses.replace(job, priority=5).priority == 5
    assert (repr(job), job.claim, job.payload, job.locked_micros) == (repr(made), made.claim, {"n": 1}, micros)
    with pytest.raises(AttributeError, match="no attribute 'prioritty'"):
        _ = job.prioritty  # type: ignore[attr-defined]
