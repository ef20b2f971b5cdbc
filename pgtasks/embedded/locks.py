"""File locks with `flock(2)`: they end with the process that holds them, however it ends.

The lock belongs to the open file description, which a forked child shares. Three rules follow from that and are kept
here: a lock is given up by an explicit `LOCK_UN`, which works through any copy, so a child's copy never keeps what the
owner gave up; it is close-on-exec, so programs that we start hold nothing unless it is handed to them; and lock files
are never removed, or two processes could hold the "same" lock on different files.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL = 0.01  # seconds


class FileLock:
    """An open lock file, at first without a lock on it.

    Args:
        path: The file; made when it is missing, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # O_NOFOLLOW: root may use a directory of someone who would like to see another file opened.
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def share(self) -> None:
        """Wait for a shared lock."""
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def try_alone(self) -> bool:
        """Take the lock exclusively if nobody else holds it; a shared lock of ours is lost either way."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait_alone(self, timeout: float) -> bool:
        """Take the lock exclusively, and wait up to `timeout` seconds for it; tell whether it was got."""
        deadline = time.monotonic() + timeout
        while not self.try_alone():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def hand_over(self) -> None:
        """Close the file without unlocking: the lock stays with the program that was started with a copy of `fd`."""
        os.close(self.fd)

    def give_up(self) -> None:
        """Unlock, for copies in forked children too, and close the file; a second call does nothing."""
        if self.fd < 0:
            return
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
        self.fd = -1


@contextmanager
def alone(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock file at `path` exclusively.

    Args:
        path: The lock file.
        timeout: How many seconds to wait for it.

    Raises:
        DatabaseUnavailableError: Another process still holds it after that time.
    """
    lock = FileLock(path)
    try:
        if not lock.wait_alone(timeout):
            raise DatabaseUnavailableError(
                f"Another process has been starting or stopping the embedded PostgreSQL for {timeout:g} s "
                f"(it holds {path}); end it and try again"
            )
        yield
    finally:
        lock.give_up()
