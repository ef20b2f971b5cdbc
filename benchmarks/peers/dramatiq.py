"""Dramatiq, on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers import redis
from benchmarks.peers.base import SCRIPTS, install_python, version_of

if TYPE_CHECKING:
    from pathlib import Path


class Dramatiq(redis.RedisPeer):
    """Its own defaults but for the number of processes."""

    name = "dramatiq"
    title = "Dramatiq"
    about = "on Redis, 2 processes with 8 threads each"
    share = 0.1
    script = SCRIPTS / "dramatiq_app.py"
    lengths = (("HLEN", "dramatiq:default.msgs"),)
    """A message stays in this hash until it is acknowledged."""

    def install(self) -> None:
        """Install it with pip, and Redis."""
        redis.install()
        self.python = install_python("dramatiq", "dramatiq[redis]")
        self.version = version_of(self.python, "dramatiq")

    def worker(self) -> list[str | Path]:
        """Its own command."""
        return [self.python, "-m", "dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8"]
