"""Hosts: running workers, and the ways to hurt them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from tests.waiting import wait_until
from tests.worker.conftest import LONG, Worker, alive, parent_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.ledger import Ledger


QUICK = {"PGTASKS_STALE_AFTER": "2"}
"""A host counts as dead after two seconds, so that a test need not wait for half a minute."""


def processes_of(session: int) -> dict[int, str]:
    """Return what runs in a session, as `ps` shows it, by process id."""
    found = {}
    for line in subprocess.check_output(["ps", "-eo", "pid=,stat=,args="], text=True).splitlines():
        pid, state = line.split()[:2]
        with contextlib.suppress(OSError):
            if os.getsid(int(pid)) == session and not state.startswith("Z"):
                found[int(pid)] = line
    return found


class Host(Worker):
    """A running `pgtasks worker` with its processes. What is done to it is entered into the ledger."""

    def __init__(
        self, ledger: Ledger, conninfo: str, log_file: Path, options: tuple[str, ...], env: dict[str, str], **more: Any
    ) -> None:
        self._ledger = ledger
        super().__init__(conninfo, log_file, ("tests.faults.tasks",), options, env=env, **more)

    def living(self) -> dict[int, str]:
        """Return the ids of the workers whose processes run, by process id."""
        ended = {record["pid"] for record in self.records("process_exited")}
        return {one["pid"]: one["worker"] for one in self.records("process_started") if one["pid"] not in ended}

    def zygote(self) -> int:
        return parent_of(next(iter(self.living())))

    def kill_process(self, pid: int) -> None:
        self._ledger.fault("kill", [pid])
        os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone, which leaves its processes without one."""
        self._ledger.fault("orphan", self.living())
        self.process.kill()
        self.process.wait()

    def lose(self) -> None:
        """Kill the supervisor and all processes, as a power cut does: none sees another's end."""
        zygote = self.zygote()
        for pid in (self.process.pid, zygote):
            os.kill(pid, signal.SIGSTOP)
        self._ledger.fault("lose", self.living())
        for pid in processes_of(zygote):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def stop_process(self, pid: int) -> None:
        """Have a process do nothing, until it is continued."""
        os.kill(pid, signal.SIGSTOP)
        self._ledger.fault("stop", [pid])

    def disturb(self, what: str) -> None:
        """Note that all processes are hurt by something that is done elsewhere."""
        self._ledger.fault(what, self.living())

    def wait_until_gone(self) -> None:
        for pid in self.process_ids():
            wait_until(lambda pid=pid: not alive(pid), LONG, f"the end of process {pid}")  # type: ignore[misc]

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            for pid in self.living():
                os.kill(pid, signal.SIGCONT)
        super().close()
