"""The command without the time that its imports take: a process that has them already, and forks for each call.

    python forked.py SOCKET

Each message on the socket is a request in JSON (`arguments`, `cwd`, `env`) with the three standard streams of the
command; the answer is its exit code. The fork ends as a process of its own does, by leaving the interpreter.
"""

from __future__ import annotations

import array
import atexit
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from functools import cache
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LONGEST = 1_000_000  # bytes of a request: arguments and environment


class Forks:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forked", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, and a command that it still waits for."""
        self._socket.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def run(
        self, arguments: list[str], cwd: Path, env: Mapping[str, str], streams: list[IO[bytes]], timeout: float
    ) -> int:
        """Run `pgtasks` with these arguments and wait for its exit code."""
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
        numbers = array.array("i", [stream.fileno() for stream in streams])
        self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        self._socket.settimeout(timeout)
        try:
            return int(self._socket.recv(100))
        except TimeoutError:
            forks.cache_clear()  # a late answer is not to be taken for the next one's
            raise AssertionError(f"pgtasks {arguments} did not end within {timeout:.0f} s") from None


@cache
def forks() -> Forks:
    """The process that forks for this test process; it ends with it."""
    made = Forks()
    atexit.register(made.close)
    return made


def _serve(number: int) -> int:
    from pgtasks.cli import COMMANDS, main

    for command in COMMANDS.values():
        importlib.import_module(command.target.partition(":")[0])
    with socket.socket(fileno=number) as requests:
        while True:
            request, rights, _, _ = requests.recvmsg(_LONGEST, socket.CMSG_SPACE(3 * 4))
            if not request:
                return 0
            streams = array.array("i")
            streams.frombytes(rights[0][2])
            pid = os.fork()
            if pid == 0:
                break
            for stream in streams:
                os.close(stream)
            _, status = os.waitpid(pid, 0)
            requests.send(str(os.waitstatus_to_exitcode(status)).encode())

    call = json.loads(request)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.environ.clear()
    os.environ.update(call["env"])
    os.chdir(call["cwd"])
    sys.path[0] = call["cwd"]
    return main(call["arguments"])


if __name__ == "__main__":
    sys.exit(_serve(int(sys.argv[1])))
