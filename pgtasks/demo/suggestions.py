"""What to try after the demo: commands that work as they stand, where the demo was run."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict

from pgtasks.settings import environment_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULE: Final = r'from pgtasks import task\n\n@task\ndef hello(payload):\n    print("hello", payload["name"])\n'
_DEFER: Final = 'from hello_tasks import hello; hello.defer({"name": "Ada"})'


def suggestions(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return commands, each with what it does.

    Args:
        environment: Environment variables that name the database, where the command line did.
    """
    pgtasks, python = _pgtasks(), _python()
    exports = [(f"export {name}={_shown(name, value)}", "the same database") for name, value in environment.items()]
    return [
        *exports,
        (f"printf '{_MODULE}' > hello_tasks.py", "a task"),
        (f"{python} -c '{_DEFER}'", "a job for it"),
        (f"{pgtasks} worker hello_tasks --once", "a worker that runs what there is, and ends"),
        (f"{pgtasks} demo --processes 1", "the demo with one process, to compare"),
    ]


def _shown(name: str, value: str) -> str:
    if name == environment_name("database_url") and any("password" in key for key in conninfo_to_dict(value)):
        return "…"
    return shlex.quote(value)


def _python() -> str:
    """Return how the running Python is called from here: by its bare name if the shell finds it."""
    own = Path(sys.executable)
    plain = own.with_name("python")
    program = plain if plain.exists() else own
    found = shutil.which(program.name)
    # Compared by directory: the Python of a virtual environment is, as a file, the one that it was made with.
    return program.name if found is not None and Path(found).parent == program.parent else _from_here(program)


def _pgtasks() -> str:
    own = Path(sys.executable).with_name("pgtasks")
    found = shutil.which("pgtasks")
    if not own.exists():
        return f"{_python()} -m pgtasks"
    return "pgtasks" if found is not None and own.samefile(found) else _from_here(own)


def _from_here(program: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
