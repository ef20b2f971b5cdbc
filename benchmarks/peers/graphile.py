"""Graphile Worker, whose tables pgtasks shares, on Node.js."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from benchmarks.loads import Load, receiving
from benchmarks.peers.base import PLACE, SCRIPTS, Peer, UnavailableError, answer, run_installer
from benchmarks.processes import started, throughput
from benchmarks.server import postgres_environment
from benchmarks.workers import Queue

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.server import Server

VERSION = "0.17.3"
"""The last one that runs on the Node.js that systems have."""
PROCESSES = 2
SLOTS = 24


class GraphileWorker(Peer):
    """Batching on, as its documentation proposes for high loads."""

    name = "graphile"
    title = "Graphile Worker"
    about = f"batching on, {PROCESSES} processes"
    batching = True

    def install(self) -> None:
        """Install it with npm."""
        npm, node = shutil.which("npm"), shutil.which("node")
        if npm is None or node is None:
            raise UnavailableError("there is no node or no npm on the PATH")
        self._node, place = node, PLACE / "graphile"
        self._modules = place / "node_modules"
        if not (self._modules / "graphile-worker" / "dist" / "index.js").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"graphile-worker@{VERSION}"]
            run_installer(command, place)
        installed = json.loads((self._modules / "graphile-worker" / "package.json").read_text(encoding="utf-8"))
        self.version = installed["version"]

    @contextmanager
    def opened(self, server: Server) -> Iterator[None]:
        """Make a database with its own schema."""
        self._directory = server.directory
        with (
            server.database(f"bench_{self.name}") as conninfo,
            psycopg.connect(conninfo, autocommit=True) as connection,
        ):
            self._environment = postgres_environment(conninfo)
            self.queue = Queue(conninfo, connection, server.directory / f"{self.name}.log")
            answer(self._command("migrate"), self._environment, may_be_silent=True)
            yield

    def throughput(self, jobs: int) -> float:
        """Run its workers on jobs that its own function has added."""
        self.queue.fill(jobs)
        return throughput(self.queue.table, self._workers(), PROCESSES)

    def clear(self) -> None:
        """Empty its queue."""
        self.queue.clear()

    def adding(self, jobs: int) -> dict[str, float]:
        """One at a time, and many in one call."""
        few = max(100, jobs // 50)
        return {"addJob": self._add(few, 1), "addJobs, 1,000 a call": self._add(max(1000, jobs // 1000 * 1000), 1000)}

    def latency(self, jobs: int, *, loaded: bool) -> list[float]:
        """Let a third Node.js add them, by its own function and clock."""
        self.queue.clear()
        options = {"jobs": jobs, "interval": 5}
        with receiving() as probes:
            environment = {"BENCH_PORT": str(probes.port)}
            slots = Load.slots if loaded else SLOTS
            with self._workers(slots, environment), Load(self.queue.conninfo).running(on=loaded):
                probes.warm_up(lambda: self._probe({"jobs": 20, "interval": 5}))
                self._probe(options)
                return probes.collect(jobs)

    def _probe(self, options: dict[str, int]) -> None:
        answer(self._command("probe", options), self._environment)

    def _add(self, jobs: int, batch: int) -> float:
        self.queue.clear()
        seconds = answer(self._command("add", {"jobs": jobs, "batch": batch}), self._environment)
        return jobs / float(seconds)

    def _workers(
        self, slots: int = SLOTS, environment: dict[str, str] | None = None
    ) -> AbstractContextManager[list[subprocess.Popen[bytes]]]:
        command = self._command("work", {"batching": self.batching, "concurrency": slots})
        return started([command] * PROCESSES, self.queue.log, {**self._environment, **(environment or {})})

    def _command(self, command: str, options: dict[str, int] | None = None) -> list[str | Path]:
        return [self._node, SCRIPTS / "graphile.mjs", self._modules, command, json.dumps(options or {})]


class GraphileDefaults(GraphileWorker):
    """As it is without any option but the number of jobs at a time."""

    name = "graphile-defaults"
    title = "Graphile Worker (no options)"
    about = f"{PROCESSES} processes"
    batching = False
    share = 0.2

    def adding(self, jobs: int) -> dict[str, float]:
        """The same as with batching."""
        del jobs
        return {}
