"""The pool of workers that the demo starts: `pgtasks worker pgtasks.demo.tasks`, a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONCURRENCY: Final = 4
"""Jobs a process, since parsing is work for the CPU; so few also need few connections."""
_POLL_INTERVAL: Final = 0.25
"""Seconds: a retry and the summary become due without anybody saying so."""
_PATIENCE: Final = (10.0, 15.0, 5.0)
"""Seconds that the worker gets to drain, to abort, and to be killed."""
_LAST_SECONDS: Final = 10.0
"""How long worker processes may take to end that have lost their supervisor: they are killed before."""
_TAIL: Final = 15
"""Lines."""

# Ends the worker when its standard input ends, that is with us, however we end.
_WATCHDOG: Final = 'while read -r _; do :; done; kill -TERM "$1"'


class Worker:
    """A running worker, in a session of its own, so that the terminal's Ctrl-C reaches only who started it.

    Args:
        processes: How many worker processes it has.
        environment: Environment variables for it, beside those of this process: they name the database.
        log: The file that it writes to.

    Attributes:
        arguments: The command that was started, as far as it tells something.
    """

    def __init__(self, processes: int, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.arguments = ["pgtasks", "worker", "pgtasks.demo.tasks", "--processes", str(processes)]
        self.arguments += ["--concurrency", str(_CONCURRENCY), "--poll-interval", str(_POLL_INTERVAL)]
        details = ["--no-migrate", "--log-format", "console", "--log-level", "info"]
        # All processes of the worker have this end, and nobody else: it is closed when the last of them ends.
        self._all_ended, end = os.pipe()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments, *details],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Without plugins: they might want tables of their own, which nobody has asked the demo for.
                env={**os.environ, "PGTASKS_AUTOLOAD_PLUGINS": "false", **environment},
                start_new_session=True,
                pass_fds=[end],
            )
        os.close(end)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        """What the worker ended with, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Let the worker finish what it has started, insist if that takes too long, and wait until all of it has ended.

        Processes that have lost their supervisor do not end with it, and until then they would be in the way of whoever
        removes what they work on.
        """
        for patience in _PATIENCE:
            if self._process.poll() is None:
                self._process.terminate()  # the first one drains, a second one aborts, a third one kills
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        select.select([self._all_ended], [], [], _LAST_SECONDS)
        os.close(self._all_ended)
        self._watchdog.send_signal(signal.SIGKILL)
        self._watchdog.communicate()

    def tail(self) -> list[str]:
        """Return the last lines of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
