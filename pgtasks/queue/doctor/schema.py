"""Whether the schema is what this release needs, and whether the role sees what is in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pgtasks.database import Operation
from pgtasks.queue.doctor.finding import Finding, identifier, many, shell

if TYPE_CHECKING:
    from pgtasks.database import Row
    from pgtasks.errors import SchemaRefusedError
    from pgtasks.queue.installed import MigrationStatus
    from pgtasks.sql import Statements


def hidden_rows(sql: Statements) -> Operation[list[Finding]]:
    """Ask whether row level security hides the queue from the role."""
    return Operation("hidden_from", sql.get("hidden_from"), (), partial(_hidden, sql.schema))


def status_findings(status: MigrationStatus) -> list[Finding]:
    """Tell what a schema lacks."""
    found = []
    schema = status.schema
    if status.kind in ("missing", "empty"):
        return [
            Finding(
                name="schema_missing",
                level="problem",
                what=f"schema {schema!r} {'does not exist' if status.kind == 'missing' else 'is empty'}",
                why="there is no queue to add jobs to",
                cure="install it, or correct the name or the database",
                commands=(shell("migrate", schema),),
                facts={"schema": schema, "kind": status.kind},
            )
        ]
    if not status.current:
        pending = [*status.pending_steps, *status.pending_functions]
        found.append(
            Finding(
                name="schema_pending",
                level="warning",
                what=f"schema {schema!r} is not up to date: {_listed(status)} pending",
                why="workers of this release do not start on it unless they may migrate it",
                cure="bring it up to date",
                commands=(shell("migrate", schema),),
                facts={"schema": schema, "pending": pending},
            )
        )
    if status.replaced_functions:
        names = ", ".join(status.replaced_functions)
        found.append(
            Finding(
                name="functions_replaced",
                level="warning",
                what=f"these functions are not those of pgtasks any more: {names}",
                why="whoever adds jobs calls them, and what they do now nobody here knows",
                cure="put those of pgtasks back",
                commands=(shell("migrate --upgrade-functions", schema),),
                facts={"functions": list(status.replaced_functions)},
            )
        )
    if not status.public_functions_ours:
        found.append(
            Finding(
                name="functions_of_graphile_worker",
                level="note",
                what="add_job and the other public functions are Graphile Worker's",
                why="an add_job with a job key that meets a worker which is just taking that job may add nothing",
                cure="put those of pgtasks in their place, which do the same without that gap",
                commands=(shell("migrate --upgrade-functions", schema),),
            )
        )
    found += [
        Finding(
            name="schema_newer",
            level="note",
            what=warning.rstrip("."),
            why="this release works with it, but does not know it",
            cure="upgrade pgtasks here too",
        )
        for warning in status.warnings
    ]
    return found


def refusal(schema: str, error: SchemaRefusedError) -> Finding:
    """Tell of a schema that this release must not touch."""
    return Finding(
        name="schema_refused",
        level="problem",
        what=f"schema {schema!r} cannot be used by this release",
        why="no worker of pgtasks starts on it",
        cure=str(error).rstrip("."),
        facts={"schema": schema},
    )


def _listed(status: MigrationStatus) -> str:
    kinds = ((status.pending_steps, "step"), (status.pending_functions, "function"))
    return " and ".join(many(len(names), noun) for names, noun in kinds if names)


def _hidden(schema: str, rows: list[Row]) -> list[Finding]:
    return [
        Finding(
            name="rows_hidden",
            level="problem",
            what=f"row level security hides the queue in schema {schema!r} from role {role!r}: to anyone but its owner "
            f"{owner!r} its tables look empty, granted or not",
            why="a worker of this role finds no jobs, and the doctor sees neither jobs nor what the schema lacks",
            cure=f"connect as {owner!r}, or let a role that only looks see everything, which a superuser can do",
            commands=(f"alter role {identifier(role)} bypassrls;",),
            facts={"role": role, "owner": owner},
        )
        for role, owner in rows
    ]
