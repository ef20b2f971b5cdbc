"""The project's own server, shared by all commands that run at the same time.

Who comes first starts it, who comes later uses it, and who leaves last stops it; the data stays. Two lock files in the
server's home say who is there:

- `start.lock` is held, exclusively, while a server is started, taken over or stopped.
- `users.lock` is held, shared, by each process that uses the server. Who leaves tries to turn its lock into an
  exclusive one, holding `start.lock`: when that succeeds it was the last, and stops the server.

What happens when processes do not leave in good order:

- A user is killed: its lock goes with it. Others are there: nothing changes. It was the last: the server goes on
  running, the next command uses it, and stops it when it leaves last.
- The machine goes down: the next start finds a `postmaster.pid` that no server stands behind, and recovers as usual.
- A user forks: `release` and the exit handler act only in the process that acquired, so a child never stops the server
  and never gives up its parent's lock. The lock itself is one for parent and child (it belongs to the open file that
  both share). The parent's `release` gives it up for both, so a child that lives on does not keep the server. When the
  parent is killed, its children keep the lock until the last of them ends: worker processes that finish their jobs
  after the supervisor's death do not lose the server to another command that comes and goes. A child that outlives a
  killed parent for ever merely keeps the server running.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql

from pgtasks.embedded.binaries import find_binaries
from pgtasks.embedded.cluster import Cluster
from pgtasks.embedded.locks import FileLock, alone
from pgtasks.embedded.places import SYSTEM_DIR, explained, find_project, home_for, make_directory
from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from pgtasks.embedded.binaries import Binaries

DATABASE = "pgtasks"
_WAIT = 180.0  # seconds for another process to start or stop: longer than Cluster's own limits


@dataclass(frozen=True, slots=True)
class _Home:
    """The directory of one embedded server: its data and its locks."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "postgres"

    @property
    def start_lock(self) -> Path:
        return self.path / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.path / "users.lock"

    def make(self) -> None:
        with explained(f"use the directory {self.path}"):
            make_directory(self.path)
            if not self.start_lock.exists() and self.path.name != ".pgtasks" and any(self.path.iterdir()):
                if self.start_lock.exists():  # another process was making it just now
                    return
                raise DatabaseUnavailableError(
                    f"{self.path} is not empty and is not the directory of an embedded PostgreSQL; "
                    f"name a new directory or an empty one"
                )


class Lease:
    """The right to use an embedded server, until `release` or the end of this process.

    Attributes:
        conninfo: The connection string of its database `pgtasks`.
        directory: The server's home: its data and its locks.
        started: Whether acquiring it started the server; false when it ran already.
        version: PostgreSQL's major version.
    """

    def __init__(self, home: _Home, cluster: Cluster, users: FileLock, conninfo: str, *, started: bool) -> None:
        self.conninfo = conninfo
        self.directory = home.path
        self.started = started
        self.version = cluster.version
        self._home = home
        self._cluster = cluster
        self._users = users
        self._owner = os.getpid()
        self._released = False
        atexit.register(self.release)

    def release(self) -> None:
        """Leave the server, and stop it when nobody else uses it.

        A second call does nothing, and neither does a call in a child process.

        Raises:
            DatabaseUnavailableError: The server was to be stopped and did not stop.
        """
        if self._released or os.getpid() != self._owner:
            return
        self._released = True
        atexit.unregister(self.release)
        _leave(self._home, self._cluster, self._users)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(project: Path | None = None, directory: Path | None = None) -> Lease:
    """Get the embedded server of a project, started if it does not run.

    Args:
        project: The project directory; found from the current directory by default.
        directory: The home of the server's data and locks, in place of the project's `.pgtasks`.

    Returns:
        A lease, which is also a context manager; the server is stopped when the last one is released. A process that
        wants to go to the background does so first: a lease belongs to the process that acquired it.

    Raises:
        DatabaseUnavailableError: The extra `embedded` is not installed, the directory cannot be used, or the server
            does not start.

    Examples:
        with acquire() as lease:
            psycopg.connect(lease.conninfo)
    """
    binaries = find_binaries()  # first, so that nothing is made where it is missing
    home = _Home(directory.absolute() if directory else home_for(project.resolve() if project else find_project()))
    home.make()
    with explained(f"use the directory {home.path}"), alone(home.start_lock, _WAIT):
        if directory is None:
            _ignore(home.path)
        made_by = _version_of(home.data)
        if made_by not in {0, binaries.version}:
            binaries = _binaries_for(made_by, home.data)
        cluster = Cluster(binaries, home.data)
        users = FileLock(home.users_lock)
        users.share()  # cannot wait: only who holds start.lock holds this one exclusively
        try:
            cluster.initialize()
            started = cluster.start()
            conninfo = _ensure_database(cluster)
        except BaseException:
            _stop_if_last(cluster, users)
            raise
        return Lease(home, cluster, users, conninfo, started=started)


def _leave(home: _Home, cluster: Cluster, users: FileLock) -> None:
    try:
        with alone(home.start_lock, _WAIT):
            _stop_if_last(cluster, users)
    except FileNotFoundError:
        pass  # someone removed the directory: its server notices that too, and ends by itself
    finally:
        users.give_up()  # also when `start.lock` could not be had


def _stop_if_last(cluster: Cluster, users: FileLock) -> None:
    try:
        if users.try_alone():
            cluster.stop()
    finally:
        users.give_up()


def _ensure_database(cluster: Cluster) -> str:
    try:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            known = conn.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as error:
        raise DatabaseUnavailableError(f"The embedded PostgreSQL in {cluster.directory} answers: {error}") from error
    return cluster.conninfo(DATABASE)


def _version_of(data_dir: Path) -> int:
    """Return the major version that a data directory was made by; 0 when there is none."""
    with explained(f"use the data directory {data_dir}"):
        try:
            written = (data_dir / "PG_VERSION").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return 0
    return int(written) if written.strip().isdecimal() else 0


def _binaries_for(version: int, data_dir: Path) -> Binaries:
    try:
        return find_binaries(version)
    except DatabaseUnavailableError as error:
        raise DatabaseUnavailableError(
            f"The data in {data_dir} was made by PostgreSQL {version}. {error}; dump it with that version and "
            f"restore it, or choose another directory"
        ) from error


def _ignore(home: Path) -> None:
    """Keep the directory out of version control, and root's system directory as it is."""
    ignored = home / ".gitignore"
    if home.parent != SYSTEM_DIR and not ignored.exists():
        ignored.write_text("*\n")
