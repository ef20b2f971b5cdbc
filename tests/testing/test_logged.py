"""Tests see what jobs log, with the job's keys, whoever logs it."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from pgtasks.logs import enter_job, get_logger
from pgtasks.testing import job_logs, make_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.testing import JobLogs


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def _in_job(call: Callable[[], Any]) -> None:
    def run() -> None:
        enter_job(make_job("charge", key="invoice:7", attempts=2, id=7))
        call()

    contextvars.copy_context().run(run)


KEYS: dict[str, Any] = {"job_id": 7, "task": "charge", "attempt": 2, "job_key": "invoice:7"}


def _log() -> None:
    logging.getLogger("shop").info("charging %s", "ada", extra={"amount": 12})
    get_logger("pgtasks.task").bind(step=1).warning("charged")
    structlog.get_logger("shop").info("told", by="mail")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("shop").exception("failed")
        structlog.get_logger("shop").exception("failed, too")


@pytest.mark.parametrize("configured", [False, True], ids=["plain", "through the standard library"])
def test_records_of_jobs_are_kept_with_their_keys(
    configured: bool, pgtasks_logs: JobLogs, capsys: pytest.CaptureFixture[str]
) -> None:
    if configured:
        structlog.configure(
            processors=[
                structlog.get_config()["processors"][0],  # the one that listens
                structlog.stdlib.filter_by_level,
                structlog.stdlib.render_to_log_kwargs,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
    _log()
    assert pgtasks_logs == []
    _in_job(_log)
    events = [(record["event"], record["level"]) for record in pgtasks_logs]
    assert events == [
        ("charging ada", "info"),
        ("charged", "warning"),
        ("told", "info"),
        ("failed", "error"),
        ("failed, too", "error"),
    ]
    assert len(pgtasks_logs.records(**KEYS)) == 5
    assert pgtasks_logs.records(logger="shop", amount=12) == [pgtasks_logs[0]]
    assert pgtasks_logs.records("charged", step=1, logger="pgtasks.task")
    assert pgtasks_logs.records("told", by="mail")
    assert [str(record["exception"]) for record in pgtasks_logs if "exception" in record] == ["no", "no"]
    assert configured or "told" in capsys.readouterr().out


def test_what_is_below_the_level_is_left_out_and_all_is_as_it_was_afterwards() -> None:
    root, processors = logging.getLogger(), list(structlog.get_config()["processors"])
    level, handlers = root.level, list(root.handlers)
    with job_logs("error") as logs:
        _in_job(_log)
    assert [record["event"] for record in logs] == ["failed", "failed, too"]
    _in_job(_log)
    assert len(logs) == 2
    assert (root.level, root.handlers) == (level, handlers)
    assert structlog.get_config()["processors"] == processors
