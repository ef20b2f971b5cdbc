"""Celery, on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers import redis
from benchmarks.peers.base import SCRIPTS, install_python, version_of

if TYPE_CHECKING:
    from pathlib import Path


class Celery(redis.RedisPeer):
    """Two processes, results ignored, acknowledged after the job, as all others here do."""

    name = "celery"
    title = "Celery"
    about = "on Redis, 2 processes"
    share = 0.05
    script = SCRIPTS / "celery_app.py"
    lengths = (("LLEN", "celery"), ("HLEN", "unacked"))

    def install(self) -> None:
        """Install it with pip, and Redis."""
        redis.install()
        self.python = install_python("celery", "celery[redis]")
        self.version = version_of(self.python, "celery")

    def worker(self) -> list[str | Path]:
        """Without what workers tell one another."""
        command: list[str | Path] = [self.python, "-m", "celery", "--app", "celery_app", "worker", "--concurrency", "2"]
        return [*command, "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
