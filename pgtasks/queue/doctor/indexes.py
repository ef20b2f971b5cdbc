"""Indexes that are missing, cannot be used, or are too large for what is in the table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, Thresholds, identifier, size
from pgtasks.queue.doctor.tables import is_too_large
from pgtasks.sql.dumped import Index, dumped_indexes, read_definition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgtasks.database import Row
    from pgtasks.sql import Statements

_WHY = "what it is for, a claim or another look at jobs, reads the whole table"
_WHY_UNIQUE = "nothing else keeps rows from being there twice, and statements that rely on it fail, such as add_job"


class _Found(NamedTuple):
    """A row of the statement: an index that is there."""

    table: str
    name: str
    quoted_table: str
    """With the schema, quoted where needed."""
    quoted: str
    text: str
    """The `CREATE INDEX`, as PostgreSQL shows it."""
    valid: bool
    ready: bool
    live: bool
    being_built: bool
    of_constraint: bool
    bytes: int
    needed: int
    """Bytes that an entry for each row of the table needs."""

    @property
    def usable(self) -> bool:
        """Whether statements can use it and changes keep it up to date."""
        return self.valid and self.ready and self.live

    @property
    def kind(self) -> tuple[str, bool, str]:
        """What it is an index of, whatever it is called."""
        return (self.table, *read_definition(self.text))


def indexes(sql: Statements, thresholds: Thresholds, *, complete: bool = True) -> Operation[list[Finding]]:
    """Look at the indexes.

    Args:
        sql: The statements.
        thresholds: What is too large.
        complete: Whether all the steps were taken that this release knows, and no others: only then it is known which
            indexes there have to be.
    """
    expected = dumped_indexes() if complete else ()
    decode = partial(_findings, thresholds, sql.schema, expected)
    return Operation("doctor_indexes", sql.get("doctor_indexes"), (), decode)


def _findings(thresholds: Thresholds, schema: str, expected: Sequence[Index], rows: list[Row]) -> list[Finding]:
    there = [_Found(*row) for row in rows]
    found = [*_missing(schema, expected, there)]
    ours = {(index.table, index.unique, index.definition) for index in dumped_indexes()}
    for index in there:
        if not index.usable:
            found.append(_invalid(index, ours=index.kind in ours, twice=_has_twin(index, there)))
        elif is_too_large(index.bytes, index.needed, thresholds):
            found.append(_too_large(index))
    return found


def _missing(schema: str, expected: Sequence[Index], there: Sequence[_Found]) -> Iterator[Finding]:
    kinds = {index.kind for index in there}
    tables = {index.table: index.quoted_table for index in there}
    names = {index.name: index for index in there}
    for index in expected:
        if (index.table, index.unique, index.definition) in kinds:
            continue
        table = tables.get(index.table) or f"{identifier(schema)}.{index.table}"
        other = names.get(index.name)
        commands = [_drop(other)] if other is not None else []
        commands.append(
            f"create {'unique ' if index.unique else ''}index concurrently {index.name} on {table} "
            f"using {index.method};"
        )
        if index.constraint is not None:
            commands.append(
                f"alter table {table} add constraint {index.name} {index.constraint} using index {index.name};"
            )
        instead = ": there is another one of that name" if other is not None else ""
        yield Finding(
            name="index_missing",
            level="problem" if index.unique else "warning",
            what=f"the index {index.name} on {table} is missing{instead}",
            why=_WHY_UNIQUE if index.unique else _WHY,
            cure="make it again; that needs time on a large table, and nobody waits for it",
            commands=tuple(commands),
            facts={"index": index.name, "table": index.table, "definition": index.definition},
        )


def _drop(index: _Found) -> str:
    if index.of_constraint:
        return f"alter table {index.quoted_table} drop constraint {identifier(index.name)};"
    return f"drop index concurrently {index.quoted};"


def _has_twin(index: _Found, there: Sequence[_Found]) -> bool:
    """Whether another index does what this one was meant to do."""
    return any(other.usable and other.kind == index.kind for other in there)


def _invalid(index: _Found, *, ours: bool, twice: bool) -> Finding:
    state = "invalid" if not index.valid else "not ready" if not index.ready else "being dropped"
    facts = {"index": index.name, "table": index.table, "valid": index.valid, "ready": index.ready}
    if index.being_built:
        return Finding(
            name="index_invalid",
            level="note",
            what=f"the index {index.quoted} is being built at this moment",
            why="until that is done no statement uses it",
            cure="wait",
            facts=facts,
        )
    needed = ours and not twice
    why = "no statement uses it, but each change keeps it up to date" if index.ready else "no statement uses it"
    if needed:
        why += f"; {_WHY_UNIQUE if index.kind[1] else _WHY}"
    return Finding(
        name="index_invalid",
        level="problem" if needed and index.kind[1] else "warning",
        what=f"the index {index.quoted} is {state}: building it has failed, or goes on where the role may not see it",
        why=why,
        cure="build it anew" if needed else "drop it: it is what a failed `concurrently` has left behind",
        commands=(f"reindex index concurrently {index.quoted};" if needed else _drop(index),),
        facts=facts,
    )


def _too_large(index: _Found) -> Finding:
    return Finding(
        name="index_size",
        level="warning",
        what=f"the index {index.quoted} takes {size(index.bytes)}; an entry for each row of its table would need about "
        f"{size(index.needed)} (an estimate)",
        why="its pages are nearly empty or hold dead entries, which claims and vacuum have to read",
        cure="build it anew; nobody waits for that",
        commands=(f"reindex index concurrently {index.quoted};",),
        facts={"index": index.name, "table": index.table, "bytes": index.bytes, "needed_bytes": index.needed},
    )
