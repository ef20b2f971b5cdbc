"""Another process that uses a project's embedded server, as a command does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The package without what it imports for applications, which `embedded` does not use: a process is ready 0.4 s sooner.
LIGHT = """
import importlib.util, sys
sys.modules["pgtasks"] = importlib.util.module_from_spec(importlib.util.find_spec("pgtasks"))
"""

# Acquires, says so, does what it is told (a line of Python at a time), and releases at the end of its input.
_SCRIPT = f"""{LIGHT}
import json, os
from pathlib import Path
import psycopg
from pgtasks.embedded import acquire

def say(**answer):
    print(json.dumps(answer), flush=True)

def query(text):
    with psycopg.connect(lease.conninfo, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchone()[0] if cursor.description else None

lease = acquire(Path(sys.argv[1]))
say(started=lease.started, began=str(query("SELECT pg_postmaster_start_time()")), conninfo=lease.conninfo)
for line in sys.stdin:
    exec(json.loads(line))
lease.release()
"""


class User:
    """A process with a lease on the server of `project`."""

    def __init__(self, project: Path, umask: str = "022") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(project)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=int(umask, 8),
        )

    def answer(self) -> dict[str, object]:
        """Return the next thing the process says; the first tells about its lease."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(30)}"
        said: dict[str, object] = json.loads(line)
        return said

    def do(self, code: str) -> None:
        """Have the process run some Python, in which `lease`, `query(…)`, `say(…)`, `os` and `sys` are at hand."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        """Have the process release its lease and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        """End the process by SIGKILL."""
        self.process.kill()
        self.process.wait(60)

    def end(self) -> None:
        """End the process however it stands, and close its pipes."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
