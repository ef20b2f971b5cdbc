"""Running the real command in a process of its own, in an environment that names no database."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PGTASKS = (sys.executable, "-m", "pgtasks")


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


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None, command: tuple[str, ...] = PGTASKS) -> Done:
    """Run `pgtasks` with these arguments in a directory and wait for its end."""
    done = subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_script(script: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run `pgtasks` with these arguments after a few lines of Python that spoil something for it."""
    code = f"{script}\nimport sys\nfrom pgtasks.cli import main\nsys.exit(main(sys.argv[1:]))"
    return run(*arguments, cwd=cwd, env=env, command=(sys.executable, "-c", code))
