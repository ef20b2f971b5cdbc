"""`pgtasks migrate`: install the schema, bring it up to date, or say what is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgtasks.cli.application import command_app
from pgtasks.cli.database import connect
from pgtasks.cli.options import database_options, settings_from
from pgtasks.cli.output import warn
from pgtasks.queue import migrate as migrations
from pgtasks.queue.plugin_steps import (
    expect_plugins_current,
    migrate_plugins,
    plugin_steps,
    plugin_steps_sql,
    plugins_status,
)

if TYPE_CHECKING:
    from pgtasks.queue.migrate import MigrationReport, MigrationStatus
    from pgtasks.queue.plugin_steps import PluginStatus


@click.command
@database_options
@click.option("--check", is_flag=True, help="Change nothing; list what is pending, and then exit with code 4.")
@click.option("--sql", is_flag=True, help="Print the SQL of a fresh install, and do not connect to any database.")
@click.option(
    "--upgrade-functions",
    is_flag=True,
    help="Also replace the functions that Graphile Worker installed by those of pgtasks.",
)
@click.pass_context
def migrate(ctx: click.Context, /, *, check: bool, sql: bool, upgrade_functions: bool, **_settings: object) -> None:
    """Install the schema or bring it up to date, and the tables of plugins.

    A schema that Graphile Worker installed is adopted: its tables and functions stay as they are.
    """
    if check + sql + upgrade_functions > 1:
        raise click.UsageError("--check, --sql and --upgrade-functions do not go together", ctx)
    settings = settings_from(ctx)
    schema = settings.schema_name
    with command_app(settings) as app:  # before anything is done, since a plugin may have a fault
        steps = plugin_steps(schema, app.hooks.collect("register_migrations", tuple))
    if sql:
        click.echo(migrations.fresh_install_sql(schema, beside=plugin_steps_sql(schema, steps)), nl=False)
        return
    with connect(settings, "pgtasks migrate") as conn:
        if check:
            _show_status(migrations.check(conn, schema), plugins_status(conn, schema, steps))
            migrations.expect_current(conn, schema)
            expect_plugins_current(conn, schema, steps)
        else:
            report = migrations.migrate(conn, schema, upgrade_functions=upgrade_functions)
            _show_steps(report)
            for step in migrate_plugins(conn, schema, steps):
                click.echo(f"step of a plugin taken: {step}")
            for warning in plugins_status(conn, schema, steps).warnings:
                warn(warning)
            click.echo(f"schema {schema!r}: {_kind(report.status)}, up to date")


def _show_status(status: MigrationStatus, plugins: PluginStatus) -> None:
    _show_warnings(status)
    for warning in plugins.warnings:
        warn(warning)
    current = status.current and not plugins.pending
    click.echo(f"schema {status.schema!r}: {_kind(status)}{', up to date' if current else ''}")
    for step in status.pending_steps:
        click.echo(f"pending step: {step}")
    for function in status.pending_functions:
        click.echo(f"pending function: {function}")
    for plugin_step in plugins.pending:
        click.echo(f"pending step of a plugin: {plugin_step}")


def _show_steps(report: MigrationReport) -> None:
    _show_warnings(report.status)
    for step in report.steps:
        click.echo(f"step taken: {step}")
    if report.functions:
        click.echo(f"functions put in place: {len(report.functions)}")


def _show_warnings(status: MigrationStatus) -> None:
    for warning in status.warnings:
        warn(warning)
    if status.replaced_functions:
        warn(
            f"these functions are not those of pgtasks any more: {', '.join(status.replaced_functions)}; "
            "run 'pgtasks migrate --upgrade-functions' to put them back"
        )


def _kind(status: MigrationStatus) -> str:
    match status.kind:
        case "missing":
            return "does not exist"
        case "empty":
            return "empty"
        case "adopted":
            return f"installed by Graphile Worker, revision {status.reference_revision}"
        case "own":
            return "installed by pgtasks"
