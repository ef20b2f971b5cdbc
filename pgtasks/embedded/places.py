"""Which directories the embedded server uses, and what is said when one of them cannot be used."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.embedded.account import owner_of
from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.embedded.account import Account

SYSTEM_DIR = Path("/var/lib/pgtasks")
"""Where root keeps what the server's account could not reach elsewhere."""

_PROJECT_MARKS = ("pyproject.toml", "pgtasks.toml", ".git")
_SOCKET_PATH_LIMIT = 103  # bytes: macOS; Linux takes four more (sun_path in unix(7), less the final zero)
_SOCKET_NAME = "/.s.PGSQL.65535.lock"
_NAMES = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn an operating system's error inside into one line that says what could not be done, and why.

    Args:
        doing: What is tried, as in "cannot {doing}".
    """
    try:
        yield
    except OSError as error:
        why = _NAMES.get(error.errno or 0) or error.strerror or str(error)
        where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
        raise DatabaseUnavailableError(
            f"The embedded PostgreSQL cannot {doing}: {why}{where}; choose another directory or set a database "
            f"(PGTASKS_DATABASE_URL, DATABASE_URL or --database-url)"
        ) from error


def find_project(start: Path | None = None) -> Path:
    """Return the project directory: the nearest one upwards that holds `pyproject.toml`, `pgtasks.toml` or `.git`.

    Args:
        start: Where to begin; the current directory by default, which is also the answer when nothing is found.
    """
    here = (start or Path.cwd()).resolve()
    for directory in (here, *here.parents):
        if any(_exists(directory / mark) for mark in _PROJECT_MARKS):
            return directory
    return here


def home_for(project: Path) -> Path:
    """Return where the server of a project keeps its data: `.pgtasks` in it, or a place elsewhere when that cannot be.

    Elsewhere is `/var/lib/pgtasks` for root, when the server's account may not enter the project (it runs under an
    account of its own, and no directory is ever opened for it), and the user's data directory for everyone else, when
    the project is read-only. A `.pgtasks` that exists is not passed over because it cannot be written: its data would
    seem lost.

    Args:
        project: The project directory, resolved.

    Raises:
        DatabaseUnavailableError: The project is read-only and the user has no home directory.
    """
    home = project / ".pgtasks"
    usable = _exists(home) or os.access(project, os.W_OK | os.X_OK)
    if os.geteuid() != 0:
        return home if usable else user_data_dir() / _label(project)
    reached = barred_at(home if _exists(home) else project, owner_of(home / "postgres")) is None
    return home if usable and reached else SYSTEM_DIR / _label(project)


def barred_at(directory: Path, account: Account | None) -> Path | None:
    """Return the first directory on the way down to `directory` that `account` may not pass; `None` if it can.

    Only the mode bits are read: an access list that grants more than they do sends us elsewhere, which is harmless.

    Args:
        directory: A directory that exists, resolved.
        account: Who wants to enter; `None` stands for an account that has no rights but everyone's.
    """
    if account is not None and not account.switch:
        return None  # ourselves: whatever we try then tells by itself
    for parent in (*reversed(directory.parents), directory):
        state = parent.stat()
        if account is not None and state.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif account is not None and state.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not state.st_mode & bit:
            return parent
    return None


def make_directory(directory: Path) -> None:
    """Make a directory and its missing parents; for root they let everyone through, whatever the umask is.

    The server's account has to pass through them. What existed before stays as it is.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    with contextlib.suppress(FileExistsError):  # another process makes it at the same time
        directory.mkdir()
        if os.geteuid() == 0:
            directory.chmod(0o755)


def socket_dir_for(data_dir: Path, account: Account) -> Path:
    """Make the directory for the socket of the server on `data_dir`: short, private and the same at each start.

    A socket's whole path must stay under about 100 bytes, which a project's directory easily exceeds.

    Raises:
        DatabaseUnavailableError: Someone else owns that directory, or it cannot be made.
    """
    found = data_dir.stat()  # the inode too: a new cluster at an old path must not meet the socket of the old one
    digest = hashlib.sha256(f"{found.st_dev}:{found.st_ino}:{data_dir}".encode(errors="surrogateescape")).hexdigest()
    parent = next((place for place in (Path(tempfile.gettempdir()), Path("/tmp")) if _suits(place, account)), None)  # noqa: S108
    if parent is None:
        raise DatabaseUnavailableError(
            "The embedded PostgreSQL finds no place for its socket: neither the directory for temporary files nor /tmp "
            "is short enough and open to this account; set TMPDIR"
        )
    directory = parent.resolve() / f"pgtasks-{account.uid}-{digest[:12]}"
    with explained(f"make the directory for its socket, {directory}"):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            account.own(directory)
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != account.uid or stat.S_IMODE(state.st_mode) & 0o077:
        raise DatabaseUnavailableError(
            f"The embedded PostgreSQL does not put its socket into {directory}: it is not a private directory of user "
            f"id {account.uid}; remove it or set TMPDIR"
        )
    return directory


def _suits(parent: Path, account: Account) -> bool:
    """Tell whether sockets can be in `parent`: short enough, ours to write, open to the account, no list of hosts."""
    real = parent.resolve()
    longest = f"{real}/pgtasks-{account.uid}-{'0' * 12}{_SOCKET_NAME}"
    if len(os.fsencode(longest)) > _SOCKET_PATH_LIMIT or "," in str(real):  # libpq splits hosts at commas
        return False
    return real.is_dir() and os.access(real, os.W_OK) and barred_at(real, account) is None


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:  # one we may not look at is as good as none
        return False
    return True


def _label(project: Path) -> str:
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()
    return f"{project.name or 'root'}-{digest[:12]}"


def user_data_dir() -> Path:
    """Return where this platform keeps a user's data, for pgtasks.

    Raises:
        DatabaseUnavailableError: The user has no home directory.
    """
    given = os.environ.get("XDG_DATA_HOME", "")
    if given.startswith("/"):  # the specification wants relative ones ignored
        return Path(given) / "pgtasks"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise DatabaseUnavailableError(
            "The embedded PostgreSQL finds no place outside the project: this user has no home directory; "
            "set XDG_DATA_HOME or a database (PGTASKS_DATABASE_URL, DATABASE_URL or --database-url)"
        ) from error
    return home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "pgtasks"
