"""Debian's Redis, with Debian's durability, for the peers that need one."""

from __future__ import annotations

import os
import shutil
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.counting import drained
from benchmarks.peers.base import SCRIPTS, Peer, UnavailableError, answer, run_installer
from benchmarks.processes import all_run, started
from benchmarks.results import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.server import Server

DEBIAN = Path("/etc/redis/redis.conf")
"""Snapshots at intervals, no append-only file: what was added since the last one is lost in a crash."""
STARTING = 10.0  # seconds


def install() -> None:
    """Get it with apt-get where that is possible.

    Raises:
        UnavailableError: There is none, and it cannot be installed.
    """
    if shutil.which("redis-server") is not None:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UnavailableError("there is no redis-server, and installing it takes apt-get and root")
    run_installer(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "redis-server"])


@contextmanager
def running(directory: Path) -> Iterator[Redis]:
    """Run a server on a free port, with its data in a directory, until the block ends."""
    directory.mkdir()
    port = _free_port()
    redis = Redis(port)
    own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--daemonize", "no"]
    own += ["--logfile", "", "--pidfile", "", "--supervised", "no"]
    command = ["redis-server", *([str(DEBIAN)] if DEBIAN.exists() else []), *own]
    with started([command], directory / "redis.log") as servers:
        limit = time.monotonic() + STARTING
        while not redis.answers():
            if servers[0].poll() is not None or time.monotonic() > limit:
                raise MeasurementError(f"redis-server did not start: {_last_line(directory / 'redis.log')}")
            time.sleep(0.05)
        yield redis


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server, asked in its own protocol."""

    port: int

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def number(self, *command: str) -> int:
        """Send a command whose answer is a number."""
        return sum(self.numbers([command]))

    def numbers(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Send some commands at once, and return their numbers."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rb") as answers:
            connection.sendall("".join(" ".join(command) + "\r\n" for command in commands).encode())
            lines = [answers.readline().decode().strip() for _ in commands]
        if not all(line.startswith(":") for line in lines):
            raise MeasurementError(f"Redis said {lines}")
        return [int(line[1:]) for line in lines]

    def clear(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rb") as answers:
            connection.sendall(b"FLUSHALL\r\n")
            answers.readline()

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return self.number("DBSIZE") >= 0
        except (OSError, MeasurementError):
            return False


@dataclass(frozen=True, slots=True)
class LengthCounter:
    """Counts jobs by the lengths of lists and hashes."""

    redis: Redis
    commands: tuple[tuple[str, ...], ...]
    jobs: int

    def begun(self) -> bool:
        """Whether any is done."""
        return self.left() < self.jobs

    def ending(self) -> bool:
        """Whether all are done: to count them costs nothing here."""
        return self.left() == 0

    def left(self) -> int:
        """How many are in the queue or being done."""
        return sum(self.redis.numbers(self.commands))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(file: Path) -> str:
    return (file.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


class RedisPeer(Peer):
    """What is common to peers whose jobs are in Redis."""

    python: Path
    script: Path
    lengths: tuple[tuple[str, ...], ...]
    """Commands whose numbers add up to the jobs that are not done."""

    def worker(self) -> list[str | Path]:
        """The command that runs its worker."""
        raise NotImplementedError

    @contextmanager
    def opened(self, server: Server) -> Iterator[None]:
        """Run a Redis for it."""
        self._log = server.directory / f"{self.name}.log"
        with running(server.directory / f"{self.name}-redis") as self.redis:
            self._environment = {"BROKER": self.redis.url, "PYTHONPATH": str(SCRIPTS)}
            yield

    def throughput(self, jobs: int) -> float:
        """Run its worker on jobs that it has added itself."""
        self._add(jobs)
        counter = LengthCounter(self.redis, self.lengths, jobs)
        with started([self.worker()], self._log, self._environment) as workers:
            return drained(counter, jobs, None, lambda: all_run(workers))

    def clear(self) -> None:
        """Forget all jobs."""
        self.redis.clear()

    def adding(self, jobs: int) -> dict[str, float]:
        """One at a time: it has no way to add many at once."""
        few = max(100, jobs // 20)
        return {"send": (few - 1) / self._add(few)}

    def _add(self, jobs: int) -> float:
        self.redis.clear()
        return float(answer([self.python, self.script, "add", str(jobs)], self._environment))
