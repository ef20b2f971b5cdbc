from __future__ import annotations

import ast
import asyncio
import contextvars
import io
import json
import logging
import logging.config
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import pgtasks
from pgtasks.logs import (
    EVENTS,
    adopt_application_logging,
    bind_process,
    configure_worker_logging,
    enter_job,
    get_logger,
)
from pgtasks.logs.output import LineHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pgtasks.__file__).parent
LOGGING_PAGE = Path(__file__).parents[2] / "docs/reference/logging.md"
JOB: dict[str, Any] = {"job_id": 7, "task": "send_email", "attempt": 1}


def running(number: int = 7, queue: str | None = None, key: str | None = None) -> Any:
    """Stands for the job that `JOB` describes, or for another one."""
    return SimpleNamespace(id=number, task="send_email", attempts=1, queue=queue, key=key)


@contextmanager
def inside_of(job: Any) -> Iterator[None]:
    """Be in that job, for the block."""
    token = enter_job(job)
    yield
    token.var.reset(token)


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    known = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    disabled = {logger for logger in known if logger.disabled}
    yield
    for logger in known:
        logger.disabled = logger in disabled
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    bind_process()


@pytest.fixture
def out() -> io.StringIO:
    """Where a worker's log goes, as JSON, from level debug."""
    stream = io.StringIO()
    configure_worker_logging("debug", "json", stream)
    return stream


def our_handler() -> LineHandler:
    return next(handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler))


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# In a program of somebody else


def test_importing_pgtasks_configures_nothing() -> None:
    script = """
import logging, structlog, pgtasks
assert not structlog.is_configured()
assert not logging.getLogger().handlers
assert not logging.getLogger("pgtasks").handlers
assert logging.getLogger("pgtasks").level == logging.NOTSET
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_program_without_our_formatter_gets_a_line_of_text(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("pgtasks.worker").warning("job_lost", job_id=7, reason="lock was lost", rate="5%")
    assert caplog.messages == ["job_lost job_id=7 reason='lock was lost' rate=5%"]


def test_a_record_names_the_line_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("pgtasks.worker").warning("job_lost")
    assert caplog.records[0].pathname == __file__
    assert caplog.records[0].funcName == "test_a_record_names_the_line_that_logged_it"


def test_an_exception_reaches_other_handlers_as_one(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("no such address")
    try:
        raise error
    except ValueError:
        get_logger("pgtasks.worker").exception("job_failed")
    info = caplog.records[0].exc_info
    assert info is not None
    assert info[1] is error


def test_a_program_that_formats_with_structlog_gets_our_keys() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=structlog.processors.KeyValueRenderer()))
    logging.getLogger().addHandler(handler)
    with inside_of(running()):
        get_logger("pgtasks.worker").warning("job_lost", reason="x")
    assert stream.getvalue() == "reason='x' event='job_lost' job_id=7 task='send_email' attempt=1\n"


def test_a_level_that_is_off_costs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(logging.Logger, "makeRecord", lambda *args, **_: made.append(args))
    logging.getLogger("pgtasks.quiet").setLevel(logging.ERROR)
    log = get_logger("pgtasks.quiet")
    log.debug("x")
    log.info("x")
    log.warning("x")
    assert not made
    assert not log.is_enabled_for(logging.WARNING)


def test_text_and_arguments_are_joined_as_in_the_standard_library(out: io.StringIO) -> None:
    get_logger("pgtasks.task").info("resized %d of %d", 3, 4, size="100%")
    assert records(out)[0]["event"] == "resized 3 of 4"


def test_keys_can_be_bound_to_a_logger(out: io.StringIO) -> None:
    get_logger("pgtasks.worker").bind(host="a1").info("worker_ready", processes=4)
    assert records(out)[0].items() >= {"host": "a1", "processes": 4}.items()


# In a worker


def test_a_record_begins_with_time_level_logger_and_event(out: io.StringIO) -> None:
    get_logger("pgtasks.worker").info("worker_ready", processes=4)
    record = records(out)[0]
    assert list(record) == ["timestamp", "level", "logger", "event", "processes"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("timestamp"))
    assert record == {"level": "info", "logger": "pgtasks.worker", "event": "worker_ready", "processes": 4}


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    configure_worker_logging("warning", "json", stream)
    for log in (get_logger("pgtasks.worker"), logging.getLogger("shop"), structlog.get_logger("shop")):
        log.info("not shown")
        log.warning("shown")
    assert [record["event"] for record in records(stream)] == ["shown"] * 3


@pytest.mark.parametrize("kind", ["ours", "standard library", "structlog"])
def test_every_record_inside_a_job_carries_its_keys(out: io.StringIO, kind: str) -> None:
    loggers: dict[str, Any] = {"ours": get_logger("pgtasks.task"), "standard library": logging.getLogger("shop")}
    log = loggers.get(kind) or structlog.get_logger("shop")
    bind_process(process=2, worker="w-1")
    with inside_of(running(queue="mail", key="welcome:42")):
        log.info("sent")
    log.info("outside")
    inside, outside = records(out)
    process = {"process": 2, "worker": "w-1"}
    assert inside.items() >= {"event": "sent", **JOB, "queue": "mail", "job_key": "welcome:42", **process}.items()
    assert outside.keys() == {"timestamp", "level", "logger", "event", "process", "worker"}


def test_a_job_without_queue_and_key_leaves_them_out(out: io.StringIO) -> None:
    with inside_of(running()):
        logging.getLogger("shop").info("sent")
    assert records(out)[0].keys() == {"timestamp", "level", "logger", "event", "job_id", "task", "attempt"}


def test_an_event_about_a_job_without_queue_and_key_leaves_them_out(out: io.StringIO) -> None:
    get_logger("pgtasks.worker").info("job_succeeded", **JOB, queue=None, job_key=None)
    assert records(out)[0].keys() == {"timestamp", "level", "logger", "event", "job_id", "task", "attempt"}


def test_an_events_own_keys_win_over_the_jobs(out: io.StringIO) -> None:
    with inside_of(running()):
        get_logger("pgtasks.worker").info("job_lost", job_id=8)
    assert records(out)[0]["job_id"] == 8


def test_each_asyncio_task_has_the_keys_of_its_own_job(out: io.StringIO) -> None:
    async def job(number: int) -> None:
        with inside_of(running(number)):
            await asyncio.sleep(0)
            await asyncio.to_thread(logging.getLogger("shop").info, "in a thread")
            await asyncio.create_task(log(number))

    async def log(number: int) -> None:
        logging.getLogger("shop").info("in a task", extra={"expected": number})

    async def jobs() -> None:
        await asyncio.gather(*(job(number) for number in range(20)))

    asyncio.run(jobs())
    seen = [record for record in records(out) if record["logger"] == "shop"]
    assert all(record["job_id"] == record.get("expected", record["job_id"]) for record in seen)
    assert sorted(record["job_id"] for record in seen) == sorted([*range(20)] * 2)


def test_each_thread_has_the_keys_of_its_own_job(out: io.StringIO) -> None:
    together = threading.Barrier(8)

    def job(number: int) -> None:
        with inside_of(running(number)):
            together.wait(timeout=30)
            logging.getLogger("shop").info("x", extra={"expected": number})

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(job, range(8)))
    assert all(record["job_id"] == record["expected"] for record in records(out))


def test_an_executor_has_the_jobs_keys_when_it_is_given_the_context(out: io.StringIO) -> None:
    with ThreadPoolExecutor(1) as executor, inside_of(running()):
        executor.submit(contextvars.copy_context().run, logging.getLogger("shop").info, "x").result()
    assert records(out)[0]["job_id"] == 7


def test_extra_keys_and_structlogs_own_context_are_written_too(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(tenant="acme"):
        logging.getLogger("shop").info("sent to %s", "ada", extra={"size": 5})
    assert records(out)[0].items() >= {"event": "sent to ada", "size": 5, "tenant": "acme"}.items()


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_traceback_has_no_values_of_local_variables(fmt: Any) -> None:
    stream = io.StringIO()
    configure_worker_logging("info", fmt, stream)

    def send(password: str) -> None:
        raise ValueError("no such address") if password else KeyError

    for log in (get_logger("pgtasks.worker"), logging.getLogger("shop"), structlog.get_logger("shop")):
        try:
            send("hunter" + "2")
        except ValueError:
            log.exception("job_failed")
    assert stream.getvalue().count("ValueError: no such address") == 3
    assert stream.getvalue().count("Traceback (most recent call last)") == 3
    assert "hunter2" not in stream.getvalue()


def test_the_stack_is_written_when_asked_for(out: io.StringIO) -> None:
    for log in (get_logger("pgtasks.worker"), logging.getLogger("shop"), structlog.get_logger("shop")):
        log.info("x", stack_info=True)
    assert all("test_the_stack_is_written_when_asked_for" in record["stack"] for record in records(out))


def test_warnings_are_records(out: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)  # pytest puts its own in the place of what was set up
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert [(record["logger"], record["level"]) for record in records(out)] == [("py.warnings", "warning")]


def test_values_that_json_has_no_form_for_are_written_as_python_shows_them(out: io.StringIO) -> None:
    get_logger("pgtasks.worker").info("x", path=Path("/a"), big=2**70, odd="\udc80", keys={1: {2}})
    assert records(out)[0].items() >= {"path": "PosixPath('/a')", "big": 2**70, "odd": "\udc80"}.items()


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_is_told_by_its_type(out: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    get_logger("pgtasks.worker").error("job_failed", value=Odd())
    assert records(out)[0]["value"] == "<Odd whose repr raises RuntimeError>"
    assert caplog.messages == ["job_failed value=<Odd whose repr raises RuntimeError>"]


def test_a_record_that_cannot_be_written_is_told_with_its_place(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler for handler in root.handlers if isinstance(handler, LineHandler)])
    logging.getLogger("shop").error("sent to %d", "ada")
    record = records(out)[0]
    assert (record["event"], record["level"], record["error"]) == ("record_unprintable", "error", "TypeError")
    assert record["text"] == "'sent to %d'"
    assert record["place"].startswith(__file__)


def test_a_filter_may_take_a_message_for_text(out: io.StringIO) -> None:
    our_handler().addFilter(lambda record: not record.msg.startswith("job_lost job"))
    get_logger("pgtasks.worker").info("job_lost", job_id=7)
    get_logger("pgtasks.worker").info("job_succeeded", job_id=7)
    assert [record["event"] for record in records(out)] == ["job_succeeded"]


def test_a_filter_that_raises_does_not_reach_who_logs(out: io.StringIO) -> None:
    handler = our_handler()
    handler.addFilter(lambda record: re.match("GET", record.msg) is None)
    log = get_logger("pgtasks.worker")
    log.info("job_succeeded", job_id=7)
    record = records(out)[0]
    assert record.items() >= {"event": "record_unprintable", "level": "info", "error": "TypeError"}.items()
    assert record["text"] == "job_succeeded job_id=7"
    assert record["place"]
    handler.addFilter(lambda record: bool(1 // (record.levelno - record.levelno)))
    log.info("job_succeeded", job_id=8)
    assert len(records(out)) == 1


def test_configuring_again_replaces_what_was_there(out: io.StringIO) -> None:
    stream = io.StringIO()
    configure_worker_logging("info", "json", stream)
    logging.getLogger("shop").info("x")
    assert out.getvalue() == ""
    assert len(records(stream)) == 1


# An application that configures logging itself


def test_our_loggers_survive_a_configuration_that_silences_what_exists(out: io.StringIO) -> None:
    log = get_logger("pgtasks.worker")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    configure_worker_logging("info", "json", out)
    adopt_application_logging()
    log.info("worker_ready")
    assert len(records(out)) == 1


def test_a_structlog_configuration_of_the_application_gets_the_jobs_keys() -> None:
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(sort_keys=True)],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger()
    log.info("before")
    adopt_application_logging()
    adopt_application_logging()
    with inside_of(running()):
        log.info("inside")
    assert stream.getvalue() == "event='before'\nattempt=1 event='inside' job_id=7 task='send_email'\n"


# The documentation


def logged_events() -> dict[str, str]:
    """Every event that is written in the code, at level info or above, with the place where it is."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("log"), attr="info" | "warning" | "error" | "exception"),
                    args=[ast.Constant(str(event)), *_],
                ):
                    found[event] = f"{file}:{node.lineno}"
    return found


def test_every_event_in_the_code_is_known() -> None:
    assert {event: place for event, place in logged_events().items() if event not in EVENTS} == {}


def test_the_documented_events_are_those_that_exist() -> None:
    events = LOGGING_PAGE.read_text().partition("## Events")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", events, re.MULTILINE)) == EVENTS
