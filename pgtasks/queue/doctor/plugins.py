"""What plugins lack and what their own checks find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from pgtasks.database import transaction_with
from pgtasks.database.errors import reason_of
from pgtasks.errors import PgtasksError
from pgtasks.hookdata import CheckResult
from pgtasks.queue.doctor.finding import CheckName, Finding, Level, many, shell
from pgtasks.queue.doctor.limits import LOCK_TIMEOUT
from pgtasks.queue.plugin_steps import plugins_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgtasks.database import Database
    from pgtasks.hookdata import Check
    from pgtasks.queue.plugin_steps import PluginStep

_TIMEOUT: Final = 2.0
"""Seconds that a statement of a check may take."""
_LEVELS: Final[dict[str, Level]] = {"error": "problem", "warning": "warning", "note": "note"}


def examine_plugins(
    database: Database, schema: str, steps: Sequence[PluginStep], checks: Iterable[tuple[str, Sequence[Check]]]
) -> list[Finding]:
    """Look at what plugins have in a schema that holds a queue.

    Args:
        database: Where it is.
        schema: The schema's name.
        steps: The steps of all plugins.
        checks: Each plugin's name, with its checks. Those of a plugin that lacks a step are left out.

    Raises:
        DatabaseUnavailableError: The database cannot be reached.
    """
    found = []
    lacking: set[str] = set()
    try:
        with database.connection() as connection:
            pending = plugins_status(connection, schema, steps).pending
    except (PgtasksError, psycopg.Error) as error:
        found.append(_unseen_steps(error))
    else:
        lacking = {step.plugin for step in pending}
        found += [_lacking(schema, plugin, pending) for plugin in sorted(lacking)]
    for plugin, of_plugin in checks:
        if plugin not in lacking:
            for check in of_plugin:
                found += _check(database, plugin, check)
    return found


def _check(database: Database, plugin: str, check: Check) -> list[Finding]:
    with database.connection() as connection:
        try:
            with transaction_with(
                connection,
                statement_timeout=f"{_TIMEOUT * 1000:.0f}ms",
                lock_timeout=f"{LOCK_TIMEOUT * 1000:.0f}ms",
                transaction_read_only="on",
            ):
                return [_finding(plugin, result) for result in check(connection) if _read(result).problem is not None]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the plugin's
            return [_failed(plugin, check, error)]


def _read(result: Any) -> CheckResult:
    if not isinstance(result, CheckResult) or result.severity not in _LEVELS:
        raise TypeError(f"it has answered {result!r}, which is no CheckResult that can be told")
    return result


def _finding(plugin: str, result: CheckResult) -> Finding:
    return Finding(
        name=CheckName(f"{plugin}.{result.name}"),
        level=_LEVELS[result.severity],
        what=str(result.problem),
        why=f"plugin {plugin!r} says so",
        cure=result.fix or f"see what the documentation of {plugin!r} says of it",
        facts={"plugin": plugin},
    )


def _failed(plugin: str, check: Check, error: Exception) -> Finding:
    name = getattr(check, "__name__", type(check).__name__)
    reason = reason_of(error) if isinstance(error, psycopg.Error) else f"{type(error).__name__}: {error}"
    return Finding(
        name=CheckName(f"{plugin}.{name}"),
        level="unseen",
        what=f"the check {name!r} of plugin {plugin!r} has failed: {reason}",
        why="whether something is wrong there is not known",
        cure=f"mend what the error names, or leave the plugin out with -p no:{plugin}",
        facts={"plugin": plugin, "checks": [name], "reason": reason},
    )


def _lacking(schema: str, plugin: str, pending: Sequence[PluginStep]) -> Finding:
    numbers = [step.number for step in pending if step.plugin == plugin]
    return Finding(
        name="plugin_steps_pending",
        level="warning",
        what=f"schema {schema!r} lacks {many(len(numbers), 'step')} of plugin {plugin!r}",
        why="the plugin has not the tables that it needs, workers do not start unless they may migrate, and its "
        "checks were not made",
        cure="bring it up to date",
        commands=(shell("migrate", schema),),
        facts={"schema": schema, "plugin": plugin, "pending": numbers},
    )


def _unseen_steps(error: Exception) -> Finding:
    reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
    return Finding(
        name="unseen",
        level="unseen",
        what=f"not looked at: which steps of plugins the schema lacks: {reason}",
        why="whether something is wrong there is not known",
        cure="look as the role that owns the schema",
        facts={"checks": ["plugin_steps"], "reason": reason},
    )
