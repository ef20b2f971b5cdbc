"""The account that PostgreSQL runs under, which matters for root only: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pgtasks.embedded.locks import FileLock
from pgtasks.errors import DatabaseUnavailableError

ACCOUNT = "pgtasks"
_ACCOUNT_LOCK = Path("/etc/.pwd.lock")
_PATIENCE = 60.0  # seconds to wait for another process that creates the account


class ProcessIdentity(TypedDict, total=False):
    """What `subprocess` has to be told so that a program runs under another account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server.

    Attributes:
        uid: Its user id.
        gid: Its group id.
        switch: Whether programs have to be started under it, because we are root.
    """

    uid: int
    gid: int
    switch: bool

    def identity(self) -> ProcessIdentity:
        """Return what `subprocess.Popen` needs to start a program under this account."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a file or directory that we have just made to this account."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_file(self, fd: int) -> None:
        """Give an open file in this account's directory to it, unless it turns out to be another name of some file."""
        state = os.fstat(fd)
        if self.switch and state.st_uid != self.uid and state.st_nlink == 1:
            os.fchown(fd, self.uid, self.gid)


def account_for(data_dir: Path) -> Account:
    """Choose the account that runs the server of `data_dir`.

    Anyone but root runs it as themselves. For root it is the owner of the directory where there is one already, so
    that `sudo pgtasks` works on a user's own project and leaves nothing behind that the user cannot read; for a new
    directory it is the system account `pgtasks`, which is created when it is missing.

    Raises:
        DatabaseUnavailableError: We are root and the account can be neither found nor created.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    owner = owner_of(data_dir)
    if owner is not None:
        return owner
    entry = _look_up(ACCOUNT) or _create(ACCOUNT)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def owner_of(data_dir: Path) -> Account | None:
    """Return the account that owns a data directory, for root to run its server; `None` for a new one or root's own."""
    try:
        found = data_dir.stat()
    except OSError:
        return None
    return Account(uid=found.st_uid, gid=found.st_gid, switch=True) if found.st_uid != 0 else None


def _look_up(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create(name: str) -> pwd.struct_passwd:
    """Create a system account, with the program that this system has for it, unless another process just did.

    `useradd` looks for the name before it locks the account file: two at once make two accounts of one name, and data
    that was given to the first is then nobody's. So we lock by ourselves, on the file that the C library locks for the
    same purpose by other means (`lckpwdf(3)` uses `fcntl` and not `flock`), because only root can open it.
    """
    try:
        lock = FileLock(_ACCOUNT_LOCK)
    except OSError as error:
        raise _not_created(name, f"{error.strerror}: {_ACCOUNT_LOCK}") from error
    try:
        lock.wait_alone(_PATIENCE)  # in vain: then as well as it goes without
        entry = _look_up(name)
        if entry is not None:
            return entry
        why = "found neither useradd nor adduser"
        for command in _creating_commands(name):
            if shutil.which(command[0]) is None:
                continue
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            entry = _look_up(name)
            if entry is not None:
                return entry
            why = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    finally:
        lock.give_up()
    entry = _look_up("_postgres")  # macOS brings this one along, and has no useradd
    if entry is not None:
        return entry
    raise _not_created(name, why)


def _not_created(name: str, why: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"PostgreSQL does not run as root, and the system account {name!r} cannot be created ({why}); "
        f"create it, run as another user, or set a database (PGTASKS_DATABASE_URL, DATABASE_URL or --database-url)"
    )


def _creating_commands(name: str) -> list[list[str]]:
    no_login = shutil.which("nologin") or "/bin/false"
    return [
        ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", no_login, name],
        ["adduser", "-S", "-D", "-H", "-h", "/", "-s", no_login, name],  # BusyBox, as in Alpine
    ]
