"""Running the real command in a process of its own, in an environment that names no database."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.forked import forks, may_be_forked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PGTASKS = (sys.executable, "-m", "pgtasks")
LONGEST = 60.0
"""Seconds that a command may take."""
_STYLE = re.compile("\x1b\\[[0-9;]*m")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """What stands after `pgtasks: error: ` on the only line of stderr."""
        label, _, message = self.err.partition("pgtasks: error: ")
        assert label == "", self.err
        assert message.count("\n") == 1, self.err
        return message.rstrip("\n")


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without anything that chooses a database or a setting, and with `env`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_URL"))}
    return {**kept, **(env or {})}


def run(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = PGTASKS,
    stdin: str | bytes = b"",
) -> Done:
    """Run `pgtasks` with these arguments in a directory and wait for its end.

    The usual command is forked off a process that has its imports, unless there is something for the interpreter in the
    environment.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode() if isinstance(stdin, str) else stdin)
        given.seek(0)
        if command == PGTASKS and may_be_forked(env):
            forked = forks().start(list(arguments), cwd, clean_environment(env), [given, out, err])
            try:
                code = forked.wait(LONGEST)
            finally:
                forked.kill()
        else:
            code = subprocess.run(
                [*command, *arguments],
                cwd=cwd,
                env=clean_environment(env),
                stdin=given,
                stdout=out,
                stderr=err,
                timeout=LONGEST,
                check=False,
            ).returncode
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def run_on_terminal(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    answer: str = "",
    question: str = "[y/N]: ",
    columns: int = 200,
) -> Done:
    """Run `pgtasks` on a terminal; give the answer when it has written the question.

    All that it writes, to stderr too, is `out`, without bold and the like.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    terminal = {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}
    environment = clean_environment({**terminal, **(env or {})})
    with open(theirs, "r+b", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        command = forks().start(list(arguments), cwd, environment, [stream] * 3)
    guard = threading.Timer(LONGEST, command.kill)
    guard.start()
    try:
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while got := os.read(ours, 10_000):
                seen += got
                if answer and question.encode() in seen:
                    os.write(ours, answer.encode())
                    answer = ""
        return Done(command.wait(), _STYLE.sub("", seen.decode()).replace("\r\n", "\n"), "")
    finally:
        guard.cancel()
        os.close(ours)


def run_script(script: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run `pgtasks` with these arguments after a few lines of Python that spoil something for it."""
    code = f"{script}\nimport sys\nfrom pgtasks.cli import main\nsys.exit(main(sys.argv[1:]))"
    return run(*arguments, cwd=cwd, env=env, command=(sys.executable, "-c", code))
