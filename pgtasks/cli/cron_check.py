"""`pgtasks cron check`: what is wrong with a crontab file, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.options import given_settings, plugin_option, settings_from
from pgtasks.cli.tables import count, safe, show_json
from pgtasks.cron.comparing import compare
from pgtasks.cron.crontab import CrontabProblem, load_crontab
from pgtasks.cron.declared import join_entries
from pgtasks.errors import CronError, ProblemsFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgtasks.app import App
    from pgtasks.cron.crontab import Crontab


@click.command
@click.argument("crontab", type=click.Path(), required=False, metavar="[FILE]")
@click.option(
    "-m",
    "--module",
    "names",  # not as a setting: the file alone is looked at where it is not given
    multiple=True,
    metavar="MODULE[:APP]",
    help="Import this, and compare the file with its tasks and with the times in its code; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON objects, one a line.")
@plugin_option
@click.pass_context
def check(ctx: click.Context, /, *, names: Sequence[str], as_json: bool, **_settings: object) -> None:
    """Look for mistakes in a crontab file, and tell each with its line and column.

    FILE is the setting 'crontab' by default, or ./crontab; where there is none, --module looks at the times in code
    alone. No database is needed. The exit code is 13 if a worker would refuse the file; what it would warn of has no
    such effect.
    """
    app = _load(ctx, names) if names else None
    path = (settings_from(ctx) if app is None else app.settings).crontab
    if path is None:
        if app is None:
            raise click.UsageError("there is no file 'crontab' here: name one, or a module with --module", ctx)
        # Mistakes in code are complained of where they stand, or by this.
        entries = app.registry.cron_entries()
        if not as_json:
            click.echo(f"no crontab, and in code {count(len(entries), 'entry', 'entries')}: no mistake")
        return
    crontab = load_crontab(_shown(path))
    problems = list(crontab.problems)
    if app is not None:
        problems += _against(crontab, app)
    problems.sort(key=lambda problem: (problem.line, problem.column))
    if as_json:
        show_json(_object(crontab, problem) for problem in problems)
    else:
        for each in problems:
            click.echo(safe(f"{crontab.name}:{each.line}:{each.column}: {each.level}: {each.message}"))
    mistakes = sum(problem.level == "error" for problem in problems)
    if mistakes:
        raise ProblemsFoundError(f"{count(mistakes, 'mistake')} in {crontab.name}")
    if not as_json:
        click.echo(safe(f"{crontab.name}: {count(len(crontab.lines), 'entry', 'entries')}, no mistake"))


def _shown(path: Path) -> Path:
    """Return a path as one would write it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _load(ctx: click.Context, modules: Sequence[str]) -> App:
    # Imported here: without a module, no application is loaded.
    import sys  # noqa: PLC0415

    from pgtasks.loading import load_app  # noqa: PLC0415
    from pgtasks.worker.executables import executable_handler  # noqa: PLC0415

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    app = load_app(modules, given_settings(ctx), executable_handler)
    _ = app.hooks  # loads the plugins, which may add tasks
    return app


def _against(crontab: Crontab, app: App) -> Iterator[CrontabProblem]:
    """Give what is wrong with a crontab where an application's tasks are known."""
    yield from compare(crontab, {task.name: task for task in app.registry})
    declared = app.registry.cron_entries()
    for line in crontab.lines:
        try:
            join_entries([line.entry], declared)
        except CronError as error:
            yield CrontabProblem(line.line, line.column, str(error))


def _object(crontab: Crontab, problem: CrontabProblem) -> dict[str, Any]:
    return {
        "file": crontab.name,
        "line": problem.line,
        "column": problem.column,
        "level": problem.level,
        "message": problem.message,
    }
