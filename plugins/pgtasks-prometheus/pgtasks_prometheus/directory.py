"""The directory in which the processes of a host leave their counts.

Supervisor and worker processes find it by the host's id, and whoever comes first makes it: they are told to begin at
about the same time, and share nothing else that a plugin could reach. It is in memory where the system has a place for
that, belongs to the user alone, and is locked for as long as any of the processes lives. So a supervisor that starts
can clear away what others have left that were killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".prometheus"
_TRIES: Final = 10


class Directory:
    """The directory of a host, locked by this process.

    Args:
        host_id: of which host.
        place: where it is; by default in shared memory, or else where temporary files are.

    Raises:
        OSError: it cannot be made, or there is one of somebody else's in its place.
    """

    def __init__(self, host_id: str, place: Path | None = None) -> None:
        self._place = place or default_place()
        self.path = self._place / f"{host_id}{_SUFFIX}"
        self._descriptor = _open_locked(self.path)

    def remove(self) -> None:
        """Delete it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)

    def clear_leftovers(self) -> None:
        """Delete the directories of hosts of which no process lives any more."""
        for path in self._place.glob(f"*{_SUFFIX}"):
            if path == self.path:
                continue
            with contextlib.suppress(OSError):
                descriptor = _open_own(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def default_place() -> Path:
    """Return where the directories of all hosts on this machine are."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - what is made there is the user's alone
    return shared_memory if os.access(shared_memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _open_locked(path: Path) -> int:
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)
        with contextlib.suppress(FileNotFoundError):
            descriptor = _open_own(path)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            os.close(descriptor)  # it was cleared away before it was locked
    raise OSError(f"{path} disappears as soon as it is made")


def _open_own(path: Path) -> int:
    """Open a directory, if nobody else can have put it there or can write to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(descriptor)
        raise PermissionError(f"{path} is not this user's alone")
    return descriptor
