"""One PostgreSQL data directory: make it, start and stop its server, say how to connect.

The server is started directly and not by `pg_ctl start`, which puts paths into a shell's command line without quoting
them (a directory named `my "odd" $dir` breaks it) and looks for readiness only ten times a second; and it is stopped
by signal, because `pg_ctl` trusts the number in `postmaster.pid` (see `postmaster`).
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from psycopg.conninfo import make_conninfo

from pgtasks.embedded.account import account_for
from pgtasks.embedded.locks import FileLock
from pgtasks.embedded.mirror import reachable
from pgtasks.embedded.places import SYSTEM_DIR, barred_at, explained, make_directory, socket_dir_for
from pgtasks.embedded.postmaster import Postmaster, find_postmaster, has_ended
from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.embedded.binaries import Binaries

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_READY = {"ready", "standby"}  # the states in which a server takes connections
_POLL = 0.005  # seconds between two looks at the pid file
_LEFTOVERS_END = 15.0  # seconds to wait for the processes of a server that crashed
_LOG_LIMIT = 10_000_000  # bytes after which the next start begins a new log
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH")

# As the server's account: append to the log, give no terminal, tell the process id. `$!` is the server itself, since a
# shell runs a simple command in the background without another shell in between.
_LAUNCH = 'cd / && log=$1 && shift && { "$@" </dev/null >>"$log" 2>&1 & } && echo $!'


class Cluster:
    """One data directory and the server on it.

    Nothing here guards against two processes that start or stop the same server at once; `server` does.

    Args:
        binaries: The programs to use.
        directory: The data directory; it need not exist.
        options: Server settings by name, which go before those in the directory's files.
        sync: Whether a new data directory is flushed to the disk before it is used. Without it a new cluster is ready
            0.2 seconds earlier, and a crash of the machine soon after may leave it unreadable.
    """

    def __init__(
        self,
        binaries: Binaries,
        directory: Path,
        *,
        options: Mapping[str, str] | None = None,
        sync: bool = True,
    ) -> None:
        with explained(f"use {directory}"):
            self.directory = directory.resolve()
        self.log = self.directory / "server.log"
        self.version = binaries.version
        self._sync = sync
        self._options = {"listen_addresses": "", **(options or {})}
        with explained(f"use {self.directory}"):
            self._account = account_for(self.directory)
            self._binaries = reachable(binaries, self._account)

    def initialized(self) -> bool:
        """Tell whether there is a data directory; it is made as a whole or not at all."""
        return (self.directory / "PG_VERSION").exists()

    def initialize(self) -> None:
        """Make the data directory. One that is missing or empty is made; one that holds a cluster is left alone.

        Raises:
            DatabaseUnavailableError: The directory holds something else, or cannot be made.
        """
        with explained(f"make the data directory {self.directory}"):
            if self.initialized():
                return
            if self.directory.exists() and any(self.directory.iterdir()):
                raise DatabaseUnavailableError(
                    f"{self.directory} is not empty and holds no PostgreSQL data directory; "
                    f"choose another directory or empty this one"
                )
            # Made beside and then renamed: whoever is killed half-way leaves nothing half-made in the place itself.
            make_directory(self.directory.parent)
            self._check_way()
            prefix = f".{self.directory.name}-new-"
            for left in self.directory.parent.glob(glob.escape(prefix) + "*"):
                shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory.parent))
            try:
                self._account.own(work)
                self._run_initdb(work)
                work.rename(self.directory)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def start(self, timeout: float = 120.0) -> bool:
        """Start the server and wait until it takes connections; a server that runs already is used as it is.

        Args:
            timeout: How many seconds to wait, which includes the recovery after a crash.

        Returns:
            Whether this call started it.

        Raises:
            DatabaseUnavailableError: It did not start; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout
        while (found := self.postmaster()) is not None:  # another process started it, or is stopping it
            if found.status in _READY:
                return False
            self._pause(deadline)
        with explained(f"start in {self.directory}"):
            self._check_way()
            socket_dir = socket_dir_for(self.directory, self._account)
            launched, said = self._launch(socket_dir)
        try:
            while (found := self.postmaster()) is None or found.status not in _READY:
                if found is None and has_ended(launched):
                    raise DatabaseUnavailableError(self._failure("did not start", said))
                self._pause(deadline)
        except BaseException:  # Ctrl-C too: nobody waits for this server any more
            with contextlib.suppress(OSError):
                os.kill(launched, signal.SIGTERM)
            with contextlib.suppress(OSError):
                socket_dir.rmdir()
            raise
        return True

    def stop(self, mode: StopMode = "fast", timeout: float = 60.0) -> None:
        """Stop the server and wait until its process has ended; nothing happens when none runs.

        Args:
            mode: `smart` waits for clients, `fast` disconnects them, `immediate` leaves recovery to the next start.
            timeout: How many seconds to wait.

        Raises:
            DatabaseUnavailableError: It still runs after that time.
        """
        found = self.postmaster()
        if found is None:
            return
        with explained(f"stop its server, process {found.pid}"):
            os.kill(found.pid, _SIGNALS[mode])
        if not _until(lambda: has_ended(found.pid), timeout):
            raise DatabaseUnavailableError(self._failure(f"did not stop within {timeout:g} s"))
        if found.socket_dir:
            with contextlib.suppress(OSError):
                Path(found.socket_dir).rmdir()  # empty after an orderly stop; it is made again at the next start

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server, in the given mode, and start it again."""
        self.stop(mode)
        self.start()

    def running(self) -> bool:
        """Tell whether a server runs on this directory, ready or not."""
        return self.postmaster() is not None

    def postmaster(self) -> Postmaster | None:
        """Return the server's process, or `None` when none runs."""
        with explained(f"use the data directory {self.directory}"):
            return find_postmaster(self.directory)

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return the connection string for a database of the running server.

        Args:
            dbname: The database's name, as it is.

        Raises:
            DatabaseUnavailableError: The server does not run.
        """
        found = self.postmaster()
        if found is None or not found.socket_dir:
            raise DatabaseUnavailableError(self._failure("does not run"))
        return make_conninfo("", host=found.socket_dir, port=found.port, user="postgres", dbname=dbname)

    def _run_initdb(self, work: Path) -> None:
        command = [self._binaries.bin_dir / "initdb", "-D", work, "--username=postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", *self._locale(), "--no-instructions"]
        if not self._sync:
            command.append("--no-sync")
        done = self._run([str(part) for part in command])
        if done.returncode != 0:
            why = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise DatabaseUnavailableError(
                f"PostgreSQL {self.version} could not make the data directory {self.directory}: {' / '.join(why[-3:])}"
            )

    def _locale(self) -> list[str]:
        """Sort by code point, everywhere alike, and know letters of all alphabets where the release can do both."""
        if self.version >= 17:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return []

    def _launch(self, socket_dir: Path) -> tuple[int, str]:
        """Start the server's process, in a session of its own, and wait for nothing more.

        The server is started with a lock on a file of the data directory. It holds that lock, and so do its children,
        until the last of them has ended. So a server that we cannot see, as it runs in another container, is noticed
        (two servers on one directory destroy it), and after a crash the start waits for what is left of the old one.

        Returns:
            Its process id, and what was said when it could not even open its log.
        """
        lock = FileLock(self.directory / "server.lock")
        try:
            self._account.own_file(lock.fd)
            if not lock.wait_alone(_LEFTOVERS_END):
                raise DatabaseUnavailableError(
                    f"A PostgreSQL server that cannot be seen from here, in another container perhaps, runs on "
                    f"{self.directory}; stop it, or choose another directory"
                )
            # Nobody runs; but PostgreSQL takes any process with a number that it finds in its lock files for its
            # predecessor, even one that has ended and was not reaped, and gives up.
            for left in (self.directory / "postmaster.pid", *socket_dir.iterdir()):
                left.unlink(missing_ok=True)
            if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".log.1"))
            command = ["/bin/sh", "-c", _LAUNCH, "sh", str(self.log), *self._command(socket_dir)]
            done = self._run(command, hand_over=lock)
        finally:
            lock.hand_over()
        if done.returncode != 0 or not done.stdout:
            raise DatabaseUnavailableError(self._failure("did not start", done.stderr))
        return int(done.stdout), done.stderr

    def _command(self, socket_dir: Path) -> list[str]:
        quoted = '"' + str(socket_dir).replace('"', '""') + '"'
        options = {**self._options, "unix_socket_directories": quoted}
        command = [str(self._binaries.bin_dir / "postgres"), "-D", str(self.directory)]
        return command + [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def _check_way(self) -> None:
        barred = barred_at(self.directory.parent, self._account)
        if barred is not None:
            raise DatabaseUnavailableError(
                f"The account that PostgreSQL runs under when we are root (user id {self._account.uid}) may not enter "
                f"{barred}; choose a directory outside it for the data, such as one in {SYSTEM_DIR}"
            )

    def _run(self, command: list[str], hand_over: FileLock | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program as the server's account: clean environment, none of our files, no terminal's Ctrl-C."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env=environment,
            umask=0o077,
            pass_fds=[hand_over.fd] if hand_over else [],
            start_new_session=True,
            **self._account.identity(),
        )

    def _pause(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise DatabaseUnavailableError(self._failure("was not ready in time"))
        time.sleep(_POLL)

    def _failure(self, what: str, said: str = "") -> str:
        """Put together an error: what happened, what was said outside the log, and the end of the log."""
        try:
            tail = self.log.read_text(errors="replace").splitlines()[-5:]
        except OSError:
            tail = []
        what = f"The embedded PostgreSQL {self.version} in {self.directory} {what}."
        return "\n".join([what, *said.strip().splitlines(), *tail])


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
