"""Probes that tell how long jobs wait, and a load that keeps half of the slots busy meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import psycopg

from benchmarks.results import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAG = 0.05  # seconds
LATE = 10.0  # seconds that the last probe may take
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Probes:
    """Receives from handlers how long their jobs waited."""

    inbox: socket.socket

    @property
    def port(self) -> int:
        """Where handlers send it to, on this machine."""
        return int(self.inbox.getsockname()[1])

    def collect(self, jobs: int) -> list[float]:
        """Wait for so many, in seconds."""
        waited: list[float] = []
        self.inbox.settimeout(LATE)
        while len(waited) < jobs:
            try:
                waited.append(int(self.inbox.recv(64)) / 1e9)
            except TimeoutError:
                raise MeasurementError(f"{len(waited)} of {jobs} jobs were started") from None
        return waited

    def during(self, seconds: float) -> list[float]:
        """Receive for so long, and return what came, in seconds."""
        waited: list[float] = []
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self.inbox.settimeout(rest)
            try:
                waited.append(int(self.inbox.recv(64)) / 1e9)
            except TimeoutError:
                break
        return waited

    def warm_up(self, add: Callable[[], None]) -> None:
        """Add some that do not count, and wait until there have been none for a while."""
        add()
        self.collect(1)
        self.inbox.settimeout(1.0)
        while True:
            try:
                self.inbox.recv(64)
            except TimeoutError:
                return


@contextmanager
def receiving() -> Iterator[Probes]:
    """Open a port for probes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        inbox.bind(("127.0.0.1", 0))
        yield Probes(inbox)


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs of 10 ms, added as fast as half of the slots of two processes can do them."""

    conninfo: str
    slots: ClassVar[int] = 10
    """Of each process, while there is such a load."""
    rate: ClassVar[int] = 2 * slots * 100 // 2
    """Jobs a second."""
    batch: ClassVar[int] = 10

    @contextmanager
    def running(self, *, on: bool) -> Iterator[None]:
        """Add jobs until the block ends."""
        if not on:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._add, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _add(self, stop: threading.Event) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                # Who fell behind on a busy machine does not make up for it with a burst, which would be another load.
                due = max(due + self.batch / self.rate, time.monotonic() - LAG)
                connection.execute(
                    """
                    select count(*) from graphile_worker.add_jobs(array(
                        select row('sleep_10ms', null, null, null, null, null, null, null)::graphile_worker.job_spec
                        from generate_series(1, %s)
                    ))
                    """,
                    (self.batch,),
                )
