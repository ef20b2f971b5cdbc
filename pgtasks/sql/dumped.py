"""The indexes that the steps make, read from the committed dump, which a test compares with a fresh install.

>>> key = next(index for index in dumped_indexes() if index.name == "jobs_key_key1")
>>> key.definition, key.method, key.constraint
('btree (key)', 'btree (key) WITH (deduplicate_items=off)', 'unique')
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pgtasks.sql import ROOT

_TABLE = re.compile(r"table (?P<name>\S+)")
_CONSTRAINT = re.compile(r"  constraint (?P<name>\S+) (?P<kind>PRIMARY KEY|UNIQUE) ")
_STORAGE = re.compile(r" WITH \([^()]*\)")
_INDEX = re.compile(r"  CREATE (?:UNIQUE )?INDEX (?P<name>\S+) ")


@dataclass(frozen=True)
class Index:
    """An index as a fresh install has it."""

    name: str
    table: str
    """The table's name, without the schema."""
    unique: bool
    definition: str
    """What PostgreSQL shows of it after `USING`, where neither its name nor the table's stands."""
    method: str
    """The same with storage parameters, as it takes to make it again."""
    constraint: str | None
    """`primary key` or `unique` if it belongs to a constraint of that kind, which then has its name."""


def read_definition(text: str) -> tuple[bool, str]:
    """Return of a `CREATE INDEX`, as PostgreSQL shows one, whether it is unique, and what stands after `USING`.

    Storage parameters are left out: whoever runs the database may have set others, and they change no answer. It is one
    line here, where PostgreSQL puts an expression with a `CASE` on several.

    >>> read_definition('CREATE UNIQUE INDEX "a b" ON jobs."my USING" USING btree (id) WITH (fillfactor=70)')
    (True, 'btree (id)')
    """
    head, _, definition = " ".join(text.split()).rpartition(" USING ")
    return head.startswith("CREATE UNIQUE "), _STORAGE.sub("", definition)


@cache
def dumped_indexes() -> tuple[Index, ...]:
    """Return the indexes of a fresh install."""
    found = []
    table, constraints = "", dict[str, str]()
    for line in (ROOT / "dump.sql").read_text(encoding="utf-8").splitlines():
        if match := _TABLE.match(line):
            table, constraints = match["name"], {}
        elif match := _CONSTRAINT.match(line):
            constraints[match["name"]] = match["kind"].lower()
        elif match := _INDEX.match(line):
            name = match["name"]
            _, _, method = line.rpartition(" USING ")
            found.append(Index(name, table, *read_definition(line), method, constraints.get(name)))
    return tuple(found)
