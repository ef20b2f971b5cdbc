"""The command without the time that its imports take: a process that has them already, and forks for each call.

    python -m tests.forked SOCKET

Each message on the socket is a request in JSON (`arguments`, `cwd`, `env`) with the three standard streams of the
command; the answer is its process id, and another message tells of its end. It begins in a session of its own. It ends
as a process does that was not forked: threads are waited for, exit handlers run, and streams flushed. Only the modules
are not taken apart, which takes a forked process 25 ms, most of them for copying what it shared.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from threading import Lock
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LONGEST_REQUEST = 1_000_000  # bytes: arguments and environment
_PATH = "PYTHONPATH"
_FOR_PYTHON = ("PYTHON", "LC_", "LANG", "LD_")


class Command:
    """A command that was forked off; like `subprocess.Popen`, as far as it goes."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._forks.code_of(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float = 1e6) -> int:
        if self.returncode is None:
            self.returncode = self._forks.code_of(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"command {self.pid}", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._lock = Lock()
        self._started: list[int] = []
        self._codes: dict[int, int] = {}

    def close(self) -> None:
        """End it; commands that still run are their tests' business."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def start(self, arguments: list[str], cwd: Path, env: Mapping[str, str], streams: list[IO[bytes]]) -> Command:
        """Run `pgtasks` with these arguments."""
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
        numbers = array.array("i", [stream.fileno() for stream in streams])
        with self._lock:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            while not self._started:
                self._hear(60)
            pid = self._started.pop()
            self._codes.pop(pid, None)  # of one that had the same number
            return Command(self, pid)

    def code_of(self, pid: int, timeout: float) -> int | None:
        """Return the exit code of a command, or None if it has not ended within so many seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                if pid in self._codes:
                    return self._codes.pop(pid)
                if not self._hear(min(max(deadline - time.monotonic(), 0), 0.1)) and time.monotonic() > deadline:
                    return None

    def _hear(self, timeout: float) -> bool:
        self._socket.settimeout(timeout)
        try:
            message = json.loads(self._socket.recv(1000))
        except (TimeoutError, BlockingIOError):
            return False
        if "started" in message:
            self._started.append(message["started"])
        else:
            pid, code = message["ended"]
            self._codes[pid] = code
        return True


@cache
def forks() -> Forks:
    """The process that forks for this test process; it ends with it."""
    made = Forks()
    atexit.register(made.close)
    return made


def may_be_forked(env: Mapping[str, str] | None) -> bool:
    """Whether nothing in what a test sets in the environment is for the interpreter, but for where it finds modules."""
    return not any(name.startswith(_FOR_PYTHON) and name != _PATH for name in env or ())


def _serve(number: int) -> int:
    from pgtasks.cli import COMMANDS, main

    path = [entry for entry in sys.path[1:] if entry not in _entries(os.environ)]

    for name in COMMANDS.keys() - {"demo"}:  # which would add its tasks to every application
        importlib.import_module(COMMANDS[name].target.partition(":")[0])
    importlib.import_module("pgtasks.worker.run")
    gc.collect()
    gc.freeze()  # or every fork copies all of this when it ends
    requests = socket.socket(fileno=number)
    wakeup, writer = socket.socketpair()
    for end in (wakeup, writer):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(wakeup, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if wakeup in ready:
            wakeup.recv(4096)
            _tell_of_ends(requests)
        if requests not in ready:
            continue
        request, rights, _, _ = requests.recvmsg(LONGEST_REQUEST, socket.CMSG_SPACE(3 * 4))
        if not request:
            return 0
        streams = array.array("i")
        streams.frombytes(rights[0][2])
        pid = os.fork()
        if pid == 0:
            break
        for stream in streams:
            os.close(stream)
        requests.send(json.dumps({"started": pid}).encode())

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for thing in (selector, requests, wakeup, writer):
        thing.close()
    os.setsid()
    call = json.loads(request)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(call["env"])
    os.chdir(call["cwd"])
    sys.path[:] = [call["cwd"], *_entries(call["env"]), *path]
    return _leave(main(call["arguments"]))


def _entries(env: Mapping[str, str]) -> list[str]:
    return [entry for entry in env.get(_PATH, "").split(os.pathsep) if entry]


def _leave(code: int) -> int:
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return code  # the interpreter has its own word to say about that
    os._exit(code)


def _tell_of_ends(requests: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        requests.send(json.dumps({"ended": [pid, os.waitstatus_to_exitcode(status)]}).encode())


if __name__ == "__main__":
    sys.exit(_serve(int(sys.argv[1])))
