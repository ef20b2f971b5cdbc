"""The SQL of pgtasks: the schema by step, one function a file, statements by name.

Files name the schema as `{gw}` (an identifier, quoted where needed) and, where text is wanted, as `{gw_text}` (a
string literal); literal braces are doubled. They are rendered by `psycopg.sql`, so a schema called `My "odd" schema` is
as good as any. Nothing in here runs SQL; `pgtasks.queue` does.

>>> check_schema_name("graphile_worker")
'graphile_worker'
>>> Statements("My-Queue").schema
'My-Queue'
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from psycopg import sql

from pgtasks.errors import SettingsError, did_you_mean

ROOT = Path(__file__).parent
"""Where the SQL files are."""

DEFAULT_SCHEMA = "graphile_worker"
"""What the schema is called unless configured otherwise."""

DOLLAR_TAG = "$pgtasks$"
"""The dollar quote around every function body; no schema name may contain it."""

FUNCTIONS_REVISION = 1
"""Raised by one with each release that changes a file in `functions/`.

An installation remembers the revision of its functions. A release re-creates the functions of an older revision and
leaves those of a newer one alone, so that two releases that run side by side during a deployment do not overwrite each
other in turn.
"""

_MAX_IDENTIFIER_BYTES = 63  # NAMEDATALEN - 1; PostgreSQL would cut a longer name off silently
_STEP_NAME = re.compile(r"(?P<id>\d{4})_(?P<name>[a-z0-9_]+)")


@dataclass(frozen=True)
class Step:
    """One step of the schema: a file in `steps/`."""

    id: int
    """The number its file name starts with; steps run in this order."""

    name: str
    """The rest of the file name."""

    breaking: bool
    """True if workers of earlier releases cannot run on the schema once this step was taken."""

    only_own: bool
    """True if the step makes what a schema that was adopted has already; there it is recorded, but not run."""

    path: Path
    """The file."""


@dataclass(frozen=True)
class Function:
    """One SQL function: a file in `functions/`, rendered for a schema."""

    name: str
    """The function's name, without schema."""

    public: bool
    """True for the functions of Graphile Worker's contract, False for those of pgtasks' own: `_pgtasks_…`, and
    `pgtasks_…`, which any database client may call. An adopted schema gets only these."""

    definition: str
    """The complete `create or replace function`."""

    body: str
    """What stands between the dollar quotes, and so in `pg_proc.prosrc`."""


class Statements:
    """The statements of `statements/`, rendered for one schema.

    Args:
        schema: The schema's name.

    Raises:
        SettingsError: If the name cannot be used, see `check_schema_name`.
    """

    def __init__(self, schema: str) -> None:
        self.schema = check_schema_name(schema)
        self._rendered: dict[str, str] = {}

    def get(self, name: str) -> str:
        """Return the text of `statements/<name>.sql`, with `$1` parameters as `psycopg.RawCursor` takes them.

        Raises:
            LookupError: If there is no such statement.
        """
        try:
            return self._rendered[name]
        except KeyError:
            path = ROOT / "statements" / f"{name}.sql"
            if not path.is_file():
                known = [other.stem for other in path.parent.glob("*.sql")]
                raise LookupError(f"There is no statement {name!r}{did_you_mean(name, known)}.") from None
            text = self._rendered[name] = render_file(path, self.schema)
            return text


def check_schema_name(name: str) -> str:
    """Return `name` if a schema of pgtasks can be called so.

    Raises:
        SettingsError: If the name is empty, longer than PostgreSQL keeps, reserved, or holds a character or a
            sequence that cannot be written into a function.
    """
    problem = None
    if not name:
        problem = "it is empty"
    elif "\0" in name:
        problem = "it contains a NUL character"
    elif not name.isprintable() and any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        problem = "it contains a lone surrogate"
    elif (size := len(name.encode())) > _MAX_IDENTIFIER_BYTES:
        problem = f"it has {size} bytes, PostgreSQL keeps {_MAX_IDENTIFIER_BYTES}"
    elif DOLLAR_TAG in name:
        problem = f"it contains {DOLLAR_TAG}"
    elif name.startswith("pg_"):
        problem = "names that start with pg_ belong to PostgreSQL"
    if problem:
        raise SettingsError(f"The schema cannot be called {name!r}: {problem}.")
    return name


def render(text: str, schema: str) -> str:
    """Return `text` with `{gw}` and `{gw_text}` filled in.

    >>> render("select count(*) from {gw}.jobs", "My-Queue")
    'select count(*) from "My-Queue".jobs'
    """
    return sql.SQL(text).format(gw=sql.Identifier(schema), gw_text=sql.Literal(schema)).as_string()


def render_file(path: Path, schema: str) -> str:
    """Return the text of a file of `pgtasks/sql`, rendered for `schema`."""
    return render(path.read_text(encoding="utf-8"), schema)


@cache
def steps() -> tuple[Step, ...]:
    """Return the steps that make the schema, in order.

    A step's first lines say what it is: `-- breaking: yes` or `-- breaking: no`, and `-- only: own` for one that a
    schema which was adopted does not need.
    """
    found = []
    for path in sorted((ROOT / "steps").glob("*.sql")):
        match = _STEP_NAME.fullmatch(path.stem)
        if match is None:
            raise LookupError(f"{path} is not called like 0001_what_it_adds.sql.")
        head = path.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
        found.append(
            Step(
                id=int(match["id"]),
                name=match["name"],
                breaking="-- breaking: yes" in head,
                only_own="-- only: own" in head,
                path=path,
            )
        )
    return tuple(found)


@cache
def functions(schema: str) -> tuple[Function, ...]:
    """Return all functions, rendered for `schema`; the private ones first, since the public ones use them."""
    found = []
    for path in sorted((ROOT / "functions").glob("*.sql")):
        text = render_file(path, schema)
        _, body, _ = text.split(DOLLAR_TAG)
        found.append(
            Function(name=path.stem, public="pgtasks_" not in path.stem, definition=text, body=body),
        )
    return tuple(sorted(found, key=lambda function: (function.public, function.name)))


def functions_digest() -> str:
    """Return a digest of all files in `functions/`; the committed dump holds it, see `FUNCTIONS_REVISION`."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "functions").glob("*.sql")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
