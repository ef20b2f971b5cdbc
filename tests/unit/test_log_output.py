"""What a worker's log looks like on a terminal, and what happens to it when stderr is a pipe or gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from pgtasks.logs import configure_worker_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], text=True, check=False, timeout=60, **options
    )


def fill(pipe: int) -> int:
    """Write to a pipe until it takes no more byte; return how many it took."""
    filled = 0
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(pipe, b"-" * size)
    os.set_blocking(pipe, True)
    return filled


def test_on_a_terminal_lines_are_for_people_and_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[" in written_to_a_terminal()


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    line = written_to_a_terminal()
    assert b"\x1b[" not in line
    assert re.fullmatch(rb"\S+Z \[info +\] worker_ready +\[pgtasks.worker\] processes=4 *\r\n", line)


def written_to_a_terminal() -> bytes:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        configure_worker_logging("info", "auto", terminal)
        get_logger("pgtasks.worker").info("worker_ready", processes=4)
        written = os.read(ours, 10_000)
    os.close(ours)
    return written


# What happens to stderr


WRITER = """
import logging, sys
from pgtasks.logs import configure_worker_logging, get_logger
configure_worker_logging("info", "json")
for number in range(400):
    get_logger("pgtasks.x").info("x", number=number, filling=sys.argv[1] * 3000)
"""


def test_lines_of_several_processes_on_one_stderr_do_not_mix() -> None:
    reading, writing = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, letter], stderr=writing) for letter in "abcd"]
    os.close(writing)
    with os.fdopen(reading) as lines:
        seen = [json.loads(line) for line in lines]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert sorted(record["filling"][0] for record in seen) == sorted("abcd" * 400)
    assert all(record["filling"] == record["filling"][0] * 3000 for record in seen)


def test_a_reader_that_goes_away_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(
        """
        import logging
        from pgtasks.logs import configure_worker_logging, get_logger
        configure_worker_logging("info", "json")
        get_logger("pgtasks.x").info("x")
        logging.getLogger("shop").info("x")
        print("still here")
        """,
        stderr=writing,
        stdout=subprocess.PIPE,
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_a_process_without_stderr_logs_into_nothing() -> None:
    done = run(
        """
        import os, sys
        from pgtasks.logs import configure_worker_logging, get_logger
        configure_worker_logging("info", "json")
        os.close(2)
        get_logger("pgtasks.x").info("x")
        sys.stderr = None
        configure_worker_logging("info", "auto")
        get_logger("pgtasks.x").info("x")
        print("still here")
        """,
        stdout=subprocess.PIPE,
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_whole_lines() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading) as lines, os.fdopen(writing, "w") as stream:
        configure_worker_logging("info", "json", stream)
        size = 200_000  # more than a pipe holds
        logging_thread = threading.Thread(target=get_logger("pgtasks.x").info, args=("x",), kwargs={"y": "y" * size})
        logging_thread.start()
        assert json.loads(lines.readline())["y"] == "y" * size
        logging_thread.join()


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_reader_that_has_stalled_costs_the_records_and_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, *, by_flag: bool
) -> None:
    patience = 0.3
    monkeypatch.setattr("pgtasks.logs.writing._PATIENCE", patience)
    if not by_flag:
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    reading, writing = os.pipe()
    filled = fill(writing)

    def log_many() -> None:
        for number in range(100):
            get_logger("pgtasks.x").info("x", number=number)

    with os.fdopen(reading) as lines, os.fdopen(writing, "w") as stream:
        configure_worker_logging("info", "json", stream)
        logging_thread = threading.Thread(target=log_many, daemon=True)
        logging_thread.start()
        logging_thread.join(100 * patience)
        assert not logging_thread.is_alive()
        lines.read(filled)
        get_logger("pgtasks.x").info("y")
        stream.close()
        assert [(record["event"], record.get("records")) for record in map(json.loads, lines)] == [
            ("records_dropped", 100),
            ("y", None),
        ]


def test_what_a_pool_of_ours_says_at_each_try_to_connect_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    configure_worker_logging("info", "json")
    pool = logging.getLogger("psycopg.pool")
    pool.warning("error connecting in %r: %s", "pgtasks-async", "refused")
    pool.warning("error connecting in %r: %s", "somebody's", "refused")
    pool.warning("rolling back returned connection: %s", "pgtasks")
    written = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert written == ['error connecting in "somebody\'s": refused', "rolling back returned connection: pgtasks"]
