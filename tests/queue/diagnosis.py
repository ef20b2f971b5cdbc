"""The doctor at a test's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.database import Database
from pgtasks.queue.doctor import Finding, FindingName, Thresholds, examine
from pgtasks.sql import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

UNSAFE_SERVERS: Sequence[FindingName] = ("unsafe_setting",)
"""What is found on all servers of the tests, since they are in a hurry."""


class Doctor:
    """Looks at a database, again and again."""

    def __init__(self, conninfo: str, schema: str = "graphile_worker") -> None:
        self._database = Database(conninfo, max_connections=2)
        self._statements = Statements(schema)

    def close(self) -> None:
        self._database.close()

    def look(self, *, ignore: Sequence[FindingName] = UNSAFE_SERVERS, **options: Any) -> list[Finding]:
        """Return what is found; options are thresholds by their names, or arguments of `examine`."""
        names = set(Thresholds.__dataclass_fields__)
        thresholds = Thresholds(**{name: value for name, value in options.items() if name in names})
        rest = {name: value for name, value in options.items() if name not in names}
        found = examine(self._database, self._statements, thresholds, **rest)
        return [finding for finding in found if finding.name not in ignore]

    def names(self, **options: Any) -> list[str]:
        """Return the names of what is found."""
        return [finding.name for finding in self.look(**options)]

    def find(self, name: FindingName, **options: Any) -> list[Finding]:
        """Return what is found under a name."""
        return [finding for finding in self.look(**options) if finding.name == name]

    def only(self, name: FindingName, **options: Any) -> Finding:
        """Return the only finding that has this name."""
        found = self.find(name, **options)
        assert len(found) == 1, found
        return found[0]


def cure(connection: psycopg.Connection[Any], finding: Finding) -> None:
    """Do what a finding says, which has to be SQL."""
    assert finding.commands
    for command in finding.commands:
        connection.execute(command.encode())


def facts(finding: Finding, *names: str) -> tuple[Any, ...]:
    """Return the facts of these names."""
    return tuple(finding.facts[name] for name in names)
